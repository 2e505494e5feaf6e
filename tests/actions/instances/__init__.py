"""Instances: running them, their power, and how EC2 shows them."""
