_base_ = ['../softmax/ocrnet_hr48_4xb2-80k_cityscapes-1024x1024.py', '../_base_/mixture.py']
model = dict(
    type='gmmseg.CascadeGMMSegmentor',
    decode_head=[
        _base_.model.decode_head[0],
        dict(_base_.model.decode_head[1], type='gmmseg.OCRGMMSegHead', mixture=_base_.mixture),
    ])
