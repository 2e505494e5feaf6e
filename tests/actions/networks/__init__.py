"""Subnets and VPCs: virtual networks."""
