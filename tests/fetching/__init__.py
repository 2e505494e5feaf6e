"""Images downloaded from URLs of users."""
