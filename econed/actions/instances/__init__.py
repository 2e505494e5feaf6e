"""Instances: launching them, changing their state, and EC2's view of them."""
