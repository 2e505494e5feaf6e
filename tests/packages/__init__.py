"""Wheel, sdist, Debian package, units and log rotation, installed as administrators install them."""
