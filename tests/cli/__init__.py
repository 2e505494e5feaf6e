"""Tests of the commands in econed.cli."""
