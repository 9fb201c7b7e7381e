_base_ = ['../softmax/segformer_mit-b0_8xb2-80k_cityscapes-768x768.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.SegformerGMMSegHead', mixture=_base_.mixture))
