_base_ = ['../softmax/upernet_convnext-b_8xb2-80k_cityscapes-768x768.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.UPerGMMSegHead', mixture=_base_.mixture))
