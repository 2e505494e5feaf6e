"""Lists of what OpenNebula does not have: tables of actions whose result is always empty."""
