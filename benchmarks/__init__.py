"""Benchmarks: how long requests take, compared with the same work done by oned alone (`make bench`)."""
