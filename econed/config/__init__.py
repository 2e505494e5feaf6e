"""econe.conf and the server credentials: read once, checked, and typed."""
