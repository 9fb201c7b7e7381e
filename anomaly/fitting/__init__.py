"""Fit densities and scores to ordinary images, in one pass."""
