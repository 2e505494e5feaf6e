"""Regions and availability zones: OpenNebula's zones and clusters."""
