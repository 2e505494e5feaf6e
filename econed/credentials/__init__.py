"""Credentials that econed makes for users: their ids, what is kept of them, and what ends them."""
