"""The order in which the calls of a process to oned are sent, and reads that are sent as one."""
