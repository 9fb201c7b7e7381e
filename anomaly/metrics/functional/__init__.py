"""Pure functions on arrays of scores."""
