_base_ = [
    '../_base_/models/segformer_dinov2-b.py',
    '../_base_/datasets/cityscapes_770x770.py',
    '../_base_/schedules/frozen_40k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(frozen=True),
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(512, 512)))
