"""HTTP: connections, requests whose bytes are kept as received, limits, uploads, responses."""
