_base_ = ['../softmax/upernet_swin-b_8xb2-80k_coco-stuff10k-512x512.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.UPerGMMSegHead', mixture=_base_.mixture))
