_base_ = './iterations_160k.py'
# For fine-tuning a vision transformer: every block learns at 0.8 times the rate of the block above it, as in EoMT
# (Kerssies et al., CVPR 2025).
max_iters = 40_000
train_cfg = dict(max_iters=max_iters, val_interval=4_000)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='gmmseg.LayerDecayConstructor',
    paramwise_cfg=dict(decay_rate=0.8),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1_500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1_500, end=max_iters),
]
