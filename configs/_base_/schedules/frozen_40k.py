_base_ = './iterations_160k.py'
# For a head on a frozen backbone: the settings of DINOv2's own segmentation heads (Oquab et al., TMLR 2024).
max_iters = 40_000
train_cfg = dict(max_iters=max_iters, val_interval=4_000)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1_500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1_500, end=max_iters),
]
