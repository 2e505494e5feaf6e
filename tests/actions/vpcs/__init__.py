"""Tests of VPCs that users create."""
