"""Tests of the states and times of virtual machines."""
