"""Tests of users and access keys."""
