_base_ = [
    '../_base_/models/ocrnet_hr48.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/sgd_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=[dict(head, num_classes=150) for head in _base_.model.decode_head])
train_dataloader = dict(batch_size=4)
