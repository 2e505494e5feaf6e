"""An oned in process, to try and test econed without OpenNebula.

It refuses the same calls as oned, with the same codes; `tests/sandbox/` replays recordings of real oned against it.
"""
