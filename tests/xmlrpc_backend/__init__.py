"""The client of oned over real sockets."""
