"""The actions, run on a sandbox or alone."""
