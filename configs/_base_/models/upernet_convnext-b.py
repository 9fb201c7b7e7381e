_base_ = './encoder_decoder.py'
norm_cfg = dict(type='SyncBN', requires_grad=True)
# UPerNet on ConvNeXt-B with ImageNet-22k weights (pip install '.[transformers]'). The revision has them as safetensors.
model = dict(
    backbone=dict(
        type='gmmseg.TransformersBackbone',
        name='facebook/convnext-base-224-22k',
        revision='a9df4c164aa0091a9b681b9418a8e48f60c27d1e',
        config=dict(
            model_type='convnext',
            hidden_sizes=[128, 256, 512, 1024],
            depths=[3, 3, 27, 3],
            drop_path_rate=0.4),
        stages=[1, 2, 3, 4],
        pretrained=True),
    decode_head=dict(
        type='UPerHead',
        in_channels=[128, 256, 512, 1024],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=512,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)))
