"""What oned is."""
