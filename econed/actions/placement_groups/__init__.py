"""Placement groups: OpenNebula's VM groups."""
