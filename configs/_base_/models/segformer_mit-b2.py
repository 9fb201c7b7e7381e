_base_ = './segformer_mit-b1.py'
# From B2 on, the head has 768 channels, as in the SegFormer paper and the published GMMSeg; the head of mmseg has 256.
model = dict(
    backbone=dict(
        num_layers=[3, 4, 6, 3],
        init_cfg=dict(
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/segformer/mit_b2_20220624-66e8bf70.pth')),
    decode_head=dict(channels=768))
