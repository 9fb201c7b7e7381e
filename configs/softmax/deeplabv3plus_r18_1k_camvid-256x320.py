_base_ = [
    '../_base_/models/deeplabv3plus_r18.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/adamw_1k.py',
    '../_base_/default_runtime.py',
]
