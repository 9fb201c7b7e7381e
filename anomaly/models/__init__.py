"""Models: the prediction that every model returns, and an adapter for each kind of network.

A new adapter is a file in this folder with a class that implements :class:`anomaly.models.base.Model` (``gives``,
``classes``, ``prepare`` and ``__call__``), and a line in :func:`anomaly.models.loading.load_model`.
"""

from anomaly.models.base import Model, Prediction
from anomaly.models.loading import load_model
from anomaly.models.tiling import Inference

__all__ = ["Inference", "Model", "Prediction", "load_model"]
