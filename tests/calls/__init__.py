"""The queue of calls to oned."""
