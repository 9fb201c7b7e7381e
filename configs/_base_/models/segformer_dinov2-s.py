_base_ = './encoder_decoder.py'
# The all-MLP head of SegFormer on the maps after every third block of DINOv2 (pip install '.[transformers]'). All maps
# have a stride of 14. The architecture is that of `name` on the Hugging Face hub, so only training asks the hub.
model = dict(
    backbone=dict(
        type='gmmseg.TransformersBackbone',
        name='facebook/dinov2-small',
        config=dict(
            model_type='dinov2',
            hidden_size=384,
            num_hidden_layers=12,
            num_attention_heads=6,
            patch_size=14,
            image_size=518),
        stages=[3, 6, 9, 12],
        pretrained=True),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[384, 384, 384, 384],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)))
