"""Algorithms that run on the host: scikit-learn's, openTSNE's."""
