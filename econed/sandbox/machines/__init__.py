"""Virtual machines from allocation to termination: devices, context, placement, states."""
