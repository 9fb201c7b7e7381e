_base_ = [
    '../_base_/models/upernet_convnext-b.py',
    '../_base_/datasets/cityscapes_768x768.py',
    '../_base_/schedules/convnext_80k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(512, 512)))
