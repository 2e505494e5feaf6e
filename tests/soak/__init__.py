"""A soak: real clients at work on real processes for minutes; memory and descriptors are watched (`make soak`)."""
