"""Tests of key pairs."""
