"""Tests of `econed.auth`."""
