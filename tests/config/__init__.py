"""econe.conf and the server credentials."""
