"""The supervisor of the workers."""
