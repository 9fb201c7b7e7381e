_base_ = ['../softmax/ocrnet_hr48_8xb2-80k_coco-stuff10k-512x512.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.CascadeGMMSegmentor',
    decode_head=[
        _base_.model.decode_head[0],
        dict(_base_.model.decode_head[1], type='gmmseg.OCRGMMSegHead', mixture=_base_.mixture),
    ])
