_base_ = './iterations_160k.py'
# ConvNeXt's own settings for UPerNet (Liu et al., CVPR 2022). Their decay of 0.9 counts three blocks of the deep stage
# as one layer; here every block is one, hence 0.9 ** (1 / 3).
max_iters = 80_000
train_cfg = dict(max_iters=max_iters, val_interval=8_000)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='gmmseg.LayerDecayConstructor',
    paramwise_cfg=dict(decay_rate=0.9655),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1_500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1_500, end=max_iters),
]
