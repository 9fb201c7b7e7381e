max_iters = 160_000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=16_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# Two checkpoints are kept, so that one is left to resume from if the other is cut short.
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4_000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'))
