"""Tests of the credentials that econed makes."""
