_base_ = './segformer_dinov2-s.py'
model = dict(
    backbone=dict(name='facebook/dinov2-base', config=dict(hidden_size=768, num_attention_heads=12)),
    decode_head=dict(in_channels=[768, 768, 768, 768]))
