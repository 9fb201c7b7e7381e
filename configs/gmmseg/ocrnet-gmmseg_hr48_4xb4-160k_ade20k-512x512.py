_base_ = ['../softmax/ocrnet_hr48_4xb4-160k_ade20k-512x512.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.CascadeGMMSegmentor',
    decode_head=[
        _base_.model.decode_head[0],
        dict(_base_.model.decode_head[1], type='gmmseg.OCRGMMSegHead', mixture=dict(_base_.mixture, num_components=8)),
    ])
