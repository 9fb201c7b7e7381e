_base_ = ['../softmax/segformer_dinov2-b_8xb2-40k_cityscapes-770x770.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.SegformerGMMSegHead', mixture=_base_.mixture))
