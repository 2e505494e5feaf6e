"""AMIs."""
