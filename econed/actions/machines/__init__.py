"""OpenNebula's virtual machines: finding them, their states, times, devices and attributes."""
