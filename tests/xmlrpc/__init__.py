"""Failover between the oneds of a zone."""
