"""Results laid out for people."""
