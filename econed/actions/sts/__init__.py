"""STS: who the caller is, and temporary credentials."""
