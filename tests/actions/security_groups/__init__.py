"""Tests of security groups."""
