"""Elastic IPs: addresses of one OpenNebula network."""
