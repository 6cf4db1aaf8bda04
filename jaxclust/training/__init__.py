"""A method and data in, a fitted state out."""
