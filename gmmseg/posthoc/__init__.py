"""Mixtures fitted to the features of a network after its training."""
