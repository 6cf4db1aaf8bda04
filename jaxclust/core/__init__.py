"""The vocabulary that everything shares: types, errors, devices."""
