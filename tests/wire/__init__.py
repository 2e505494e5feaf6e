"""Tests of `econed.wire`."""
