"""OpenNebula's images, of which EC2 makes AMIs, volumes and snapshots: finding, deleting, attributes."""
