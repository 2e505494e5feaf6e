"""A small oned in process: the OpenNebula that econed is tried on and tested with.

It refuses what oned refuses, for oned's reasons; `tests/sandbox/` replays recordings of real oned against it.
"""
