"""econe.conf and the credentials of the server account: read once, validated, and typed."""
