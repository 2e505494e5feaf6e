"""Tests of network interfaces."""
