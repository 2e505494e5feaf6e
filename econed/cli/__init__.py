"""Commands for people who have a checkout: try econed, leave a server running, write the reference."""
