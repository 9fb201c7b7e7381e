"""Where mmengine finds this package: ``type='anomaly.PixelAnomalyMetric'`` works in any mmseg config."""

from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import Registry

METRICS = Registry(
    "metric",
    parent=ROOT_METRICS,
    scope="anomaly",
    locations=[
        "anomaly.integrations.mmseg_metric",
        "anomaly.integrations.mmseg_component_metric",
        "anomaly.integrations.mmseg_iou_metric",
    ],
)
