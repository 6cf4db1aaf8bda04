"""Networks that come with weights from a file."""
