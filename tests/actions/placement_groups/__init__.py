"""Tests of placement groups."""
