"""Evaluation: from a model and datasets to metrics, with one loop, its configuration and callbacks."""
