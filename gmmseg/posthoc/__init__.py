"""Mixtures fitted to the features of a network after its training."""

from gmmseg.posthoc.any_model import MixtureModel, fit_mixtures, load_mixtures

__all__ = ["MixtureModel", "fit_mixtures", "load_mixtures"]
