"""Tags of all kinds of resources."""
