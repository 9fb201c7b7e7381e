"""Where mmengine finds this package: ``type='gmmseg.SegformerGMMSegHead'`` works in any mmseg config."""

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import Registry

MODELS = Registry("model", parent=ROOT_MODELS, scope="gmmseg", locations=["gmmseg.models"])
DATASETS = Registry("dataset", parent=ROOT_DATASETS, scope="gmmseg", locations=["gmmseg.datasets"])
