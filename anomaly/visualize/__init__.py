"""Pictures of scores: objects that draw one thing each, and matplotlib figures for notebooks and papers."""

from anomaly.visualize.contours import Contours
from anomaly.visualize.curves import precision_recall_figure, roc_figure
from anomaly.visualize.error_map import ErrorMap
from anomaly.visualize.heatmap import Heatmap
from anomaly.visualize.histogram import histogram_figure
from anomaly.visualize.mixture import mixture_figure
from anomaly.visualize.overlay import Overlay
from anomaly.visualize.panel import Panel
from anomaly.visualize.prediction import ClassColours

__all__ = [
    "ClassColours",
    "Contours",
    "ErrorMap",
    "Heatmap",
    "Overlay",
    "Panel",
    "histogram_figure",
    "mixture_figure",
    "precision_recall_figure",
    "roc_figure",
]
