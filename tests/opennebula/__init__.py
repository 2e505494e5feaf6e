"""Tests of econed.opennebula."""
