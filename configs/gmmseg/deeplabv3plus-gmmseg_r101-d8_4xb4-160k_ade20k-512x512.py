_base_ = ['../softmax/deeplabv3plus_r101-d8_4xb4-160k_ade20k-512x512.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.DepthwiseSeparableASPPGMMSegHead', mixture=dict(_base_.mixture, num_components=8)))
