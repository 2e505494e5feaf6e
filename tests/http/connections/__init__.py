"""Connections over real sockets: their limits, and invalid HTTP."""
