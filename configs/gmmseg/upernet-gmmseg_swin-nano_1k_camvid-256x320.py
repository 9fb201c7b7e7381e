_base_ = ['../softmax/upernet_swin-nano_1k_camvid-256x320.py', '../_base_/mixture.py']
# For a short training, the momentum of the means is lower than the paper's 0.999 and the memory is smaller.
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(
        type='gmmseg.UPerGMMSegHead',
        mixture=dict(_base_.mixture, memory_size=2000, mean_momentum=0.9)))
