_base_ = ['../softmax/segformer_mit-b1_8xb2-160k_ade20k-512x512.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.SegformerGMMSegHead', mixture=dict(_base_.mixture, num_components=8)))
