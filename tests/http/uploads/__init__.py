"""Uploads of images."""
