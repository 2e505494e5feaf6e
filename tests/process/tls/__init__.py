"""TLS of the server."""
