"""VPCs that users create, and their subnets: making, changing and deleting them."""
