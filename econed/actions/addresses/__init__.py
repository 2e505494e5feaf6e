"""Elastic IPs, which are addresses of one OpenNebula network."""
