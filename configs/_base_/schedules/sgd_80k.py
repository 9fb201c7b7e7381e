_base_ = './sgd_160k.py'
max_iters = 80_000
train_cfg = dict(max_iters=max_iters, val_interval=8_000)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-4, by_epoch=False, begin=0, end=max_iters)]
