"""OpenNebula's images, which are EC2's AMIs, volumes and snapshots: finding and deleting them, and their attributes."""
