"""The commands in the documentation are valid, and do what the pages say."""
