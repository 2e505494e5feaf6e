"""The commands for people, as they are run."""
