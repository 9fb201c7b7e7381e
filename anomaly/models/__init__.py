"""Networks as the evaluation asks them: what a prediction holds, and an adapter for each kind of network.

A new adapter is a file of this folder: a class with ``gives``, ``classes``, ``prepare`` and ``__call__``
(:class:`anomaly.models.base.Model`), and a line in :func:`anomaly.models.loading.load_model`.
"""

from anomaly.models.base import Model, Prediction
from anomaly.models.loading import load_model
from anomaly.models.tiling import Inference

__all__ = ["Inference", "Model", "Prediction", "load_model"]
