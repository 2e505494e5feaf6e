"""Images that econed downloads from URLs of users."""
