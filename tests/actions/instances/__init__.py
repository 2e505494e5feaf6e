"""Tests of launching instances, changing their state, and listing them."""
