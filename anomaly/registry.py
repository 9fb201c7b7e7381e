"""The registry in which mmengine finds ``type='anomaly.PixelAnomalyMetric'``, in any mmseg config."""

from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import Registry

METRICS = Registry(
    "metric",
    parent=ROOT_METRICS,
    scope="anomaly",
    locations=[
        "anomaly.mmengine.pixel_metric",
        "anomaly.mmengine.component_metric",
        "anomaly.mmengine.iou_metric",
    ],
)
