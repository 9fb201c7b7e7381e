_base_ = ['../softmax/deeplabv3plus_r101-d8_4xb2-80k_cityscapes-1024x1024.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.DepthwiseSeparableASPPGMMSegHead', mixture=_base_.mixture))
