"""What a hostile user tried, over real sockets, and what it cost another user: a benchmark, run by `make attacks`."""
