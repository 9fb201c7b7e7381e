# The network of `make demo` and of checkpoints/street_scenes.pth: three stages of the backbone. It trains in a few minutes
# on two CPU cores.
_base_ = [
    '../_base_/models/segformer_efficientnet-lite0.py',
    '../_base_/datasets/street_scenes.py',
    '../_base_/schedules/adamw_1k.py',
    '../_base_/default_runtime.py',
    '../_base_/mixture.py',
]
model = dict(
    type='gmmseg.GMMSegmentor',
    data_preprocessor=dict(size=(192, 256)),
    backbone=dict(num_stages=3),
    decode_head=dict(
        type='gmmseg.SegformerGMMSegHead',
        in_channels=[24, 40, 112],
        in_index=[0, 1, 2],
        num_classes=11,
        mixture=dict(_base_.mixture, memory_size=2000, mean_momentum=0.9)))
max_iters = 600
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
