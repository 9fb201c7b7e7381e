"""Metrics of anomaly segmentation.

``functional`` holds pure functions. The classes here accumulate frames with ``update``, ``merge``, ``compute`` and
``reset``.
"""

from anomaly.metrics.component import ComponentMetrics, ComponentResult
from anomaly.metrics.functional.components import TRACKS
from anomaly.metrics.functional.ranking import UndefinedMetricWarning
from anomaly.metrics.open_iou import OpenIoUMetrics, OpenIoUResult
from anomaly.metrics.pixel import PixelMetrics, PixelResult

__all__ = [
    "TRACKS",
    "ComponentMetrics",
    "ComponentResult",
    "OpenIoUMetrics",
    "OpenIoUResult",
    "PixelMetrics",
    "PixelResult",
    "UndefinedMetricWarning",
]
