_base_ = [
    '../_base_/models/upernet_swin-nano.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/adamw_1k.py',
    '../_base_/default_runtime.py',
]
