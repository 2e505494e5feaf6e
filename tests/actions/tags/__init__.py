"""Tags of everything that can be tagged."""
