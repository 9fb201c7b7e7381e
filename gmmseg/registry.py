"""Registries of mmengine for this package, so that ``type='gmmseg.SegformerGMMSegHead'`` works in any mmseg config."""

from mmengine.registry import DATA_SAMPLERS as ROOT_DATA_SAMPLERS
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
from mmengine.registry import Registry

MODELS = Registry("model", parent=ROOT_MODELS, scope="gmmseg", locations=["gmmseg.models"])
DATASETS = Registry("dataset", parent=ROOT_DATASETS, scope="gmmseg", locations=["gmmseg.datasets"])
DATA_SAMPLERS = Registry("data sampler", parent=ROOT_DATA_SAMPLERS, scope="gmmseg", locations=["gmmseg.training"])
HOOKS = Registry("hook", parent=ROOT_HOOKS, scope="gmmseg", locations=["gmmseg.training"])
OPTIM_WRAPPERS = Registry(
    "optimizer wrapper", parent=ROOT_OPTIM_WRAPPERS, scope="gmmseg", locations=["gmmseg.training"]
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=ROOT_OPTIM_WRAPPER_CONSTRUCTORS,
    scope="gmmseg",
    locations=["gmmseg.training"],
)
