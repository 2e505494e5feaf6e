"""Tests of the sandbox, and of its contract with real oned."""
