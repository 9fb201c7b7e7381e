_base_ = ['../softmax/segformer_mit-b2_8xb1-160k_cityscapes-1024x1024.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.SegformerGMMSegHead', mixture=_base_.mixture))
