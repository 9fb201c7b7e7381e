"""Anomaly scores: pure functions of a network's output; higher = more anomalous."""

from anomaly.scores.registry import SCORES, Score, get_scores

__all__ = ["SCORES", "Score", "get_scores"]
