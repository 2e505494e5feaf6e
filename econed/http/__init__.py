"""HTTP: connections, requests, limits, uploads, responses."""
