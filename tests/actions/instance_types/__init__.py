"""Tests of regions and availability zones: OpenNebula's zones and clusters."""
