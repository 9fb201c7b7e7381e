_base_ = './segformer_160k.py'
max_iters = 80_000
train_cfg = dict(max_iters=max_iters, val_interval=8_000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1_500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1_500, end=max_iters),
]
