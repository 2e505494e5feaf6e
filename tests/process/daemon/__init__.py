"""The daemon as processes on a sandbox. The clients of tests under load never retry."""
