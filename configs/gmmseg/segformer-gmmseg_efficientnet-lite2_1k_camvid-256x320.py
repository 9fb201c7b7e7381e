_base_ = './segformer-gmmseg_efficientnet-lite0_1k_camvid-256x320.py'
model = dict(backbone=dict(type='gmmseg.EfficientNetLite2'), decode_head=dict(in_channels=[24, 48, 120, 352]))
