_base_ = ['../softmax/segformer_mit-b2_8xb2-80k_coco-stuff10k-512x512.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(type='gmmseg.SegformerGMMSegHead', mixture=_base_.mixture))
