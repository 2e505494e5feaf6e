"""Attacks by a hostile user over real sockets, and their effect on another user: a benchmark for `make attacks`."""
