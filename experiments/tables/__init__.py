"""Runs of several kinds and seeds, and the tables they make."""
