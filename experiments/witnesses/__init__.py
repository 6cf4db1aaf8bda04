"""The methods read from their papers a second time, in PyTorch, without this library."""
