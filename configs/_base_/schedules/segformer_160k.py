_base_ = './iterations_160k.py'
# As in mmseg, layers without pretrained weights (the head, with the LayerNorms of its mixtures) have ten times the
# learning rate.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(pos_block=dict(decay_mult=0.0), norm=dict(decay_mult=0.0), head=dict(lr_mult=10.0))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1_500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1_500, end=_base_.max_iters),
]
