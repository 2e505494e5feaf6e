"""A soak test: real clients use real processes for minutes, with memory measurements (`make soak`)."""
