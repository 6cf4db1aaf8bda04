"""Gradients that XLA's CPU backend needs written by hand."""
