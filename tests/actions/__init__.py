"""Tests of the actions, on a sandbox or alone."""
