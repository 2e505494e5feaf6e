"""Tests of the sandbox, and its contract with real oned."""
