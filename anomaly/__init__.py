"""Open-world segmentation: anomaly scores of any network on labelled datasets, exact metrics, images and a report.

import anomaly

model = anomaly.load_model("config.py", "checkpoint.pth")
data = anomaly.load_dataset("road_anomaly", root="data")
result = anomaly.evaluate(model, data, scores=["energy", "msp"])
print(result)
result.report("out/report.html")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly.api import Result, compare, evaluate, fit, score, verify
    from anomaly.datasets.catalog import load_dataset
    from anomaly.datasets.dataset import Dataset
    from anomaly.datasets.folder import from_folders
    from anomaly.errors import InputError
    from anomaly.evaluation.callbacks import Callback
    from anomaly.evaluation.config import MetricConfig
    from anomaly.models.base import Model, Prediction
    from anomaly.models.feature_density import FeatureDensity
    from anomaly.models.fitted import FittedModel
    from anomaly.models.functions import ScoreModel
    from anomaly.models.huggingface import HuggingFaceModel
    from anomaly.models.loading import load_model
    from anomaly.models.tiling import Inference
    from anomaly.models.torch import TorchModel
    from anomaly.scores.registry import Score

__version__ = "0.2.0"
_PLACES = {
    "evaluate": "api",
    "score": "api",
    "fit": "api",
    "compare": "api",
    "verify": "api",
    "Result": "api",
    "load_dataset": "datasets.catalog",
    "from_folders": "datasets.folder",
    "Dataset": "datasets.dataset",
    "load_model": "models.loading",
    "TorchModel": "models.torch",
    "HuggingFaceModel": "models.huggingface",
    "ScoreModel": "models.functions",
    "FeatureDensity": "models.feature_density",
    "FittedModel": "models.fitted",
    "Model": "models.base",
    "Prediction": "models.base",
    "Inference": "models.tiling",
    "MetricConfig": "evaluation.config",
    "Callback": "evaluation.callbacks",
    "Score": "scores.registry",
    "InputError": "errors",
}
__all__ = [  # in the order of the documentation
    "evaluate",
    "score",
    "fit",
    "compare",
    "verify",
    "Result",
    "load_dataset",
    "from_folders",
    "Dataset",
    "load_model",
    "TorchModel",
    "HuggingFaceModel",
    "ScoreModel",
    "FeatureDensity",
    "FittedModel",
    "Model",
    "Prediction",
    "Inference",
    "MetricConfig",
    "Callback",
    "Score",
    "InputError",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import anomaly`` loads nothing else."""
    if name not in _PLACES:
        raise AttributeError(f"module 'anomaly' has no attribute {name!r}")
    try:
        found = getattr(importlib.import_module(f"anomaly.{_PLACES[name]}"), name)
    except ModuleNotFoundError as error:
        from anomaly.utils.optional import raise_missing

        raise_missing(error)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
