"""Subnets and VPCs: OpenNebula's virtual networks."""
