"""What an EC2 call means in OpenNebula: a module per EC2 resource, one `async def` per action."""
