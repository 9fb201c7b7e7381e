"""Metrics: pure functions in ``functional``, and classes with update / merge / compute / reset above them."""

from anomaly.metrics.functional.ranking import UndefinedMetricWarning
from anomaly.metrics.pixel import PixelMetrics, PixelResult

__all__ = ["PixelMetrics", "PixelResult", "UndefinedMetricWarning"]
