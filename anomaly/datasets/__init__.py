"""Evaluation sets: names in ``catalog``, one reader per benchmark, frames in ``split``."""
