"""Network interfaces: OpenNebula's NICs."""
