"""Mixtures fitted to the features of a network that is trained already."""
