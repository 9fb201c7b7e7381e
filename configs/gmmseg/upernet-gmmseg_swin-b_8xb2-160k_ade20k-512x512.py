_base_ = ['../softmax/upernet_swin-b_8xb2-160k_ade20k-512x512.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.UPerGMMSegHead', mixture=dict(_base_.mixture, num_components=8)))
