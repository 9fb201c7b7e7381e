_base_ = [
    '../_base_/models/fcn_r101-d8.py',
    '../_base_/datasets/coco-stuff10k.py',
    '../_base_/schedules/sgd_80k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=171),
    auxiliary_head=dict(num_classes=171))
