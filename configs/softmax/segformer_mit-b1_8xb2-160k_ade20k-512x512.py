_base_ = [
    '../_base_/models/segformer_mit-b1.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segformer_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=150))
