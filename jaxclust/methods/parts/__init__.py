"""What methods are put together from."""
