_base_ = ['../softmax/fcn_r101-d8_4xb2-80k_cityscapes-768x768.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.FCNGMMSegHead', mixture=_base_.mixture))
