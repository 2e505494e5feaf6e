"""Instance types as clients list them; what machines are created from is in `econed.actions.instances.types`."""
