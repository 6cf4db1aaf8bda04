"""Cluster state and its pure updates; no networks."""
