"""EC2's actions on OpenNebula: a package per EC2 resource, one `async def` per action."""
