_base_ = '../softmax/deeplabv3plus_r18_1k_camvid-256x320.py'
# A short training: means follow the memory faster than the paper's 0.999, and the memory is smaller.
model = dict(
    type='gmmseg.GMMSegmentor',
    decode_head=dict(
        type='gmmseg.DepthwiseSeparableASPPGMMSegHead',
        mixture=dict(num_components=5, embed_dim=64, memory_size=2000, mean_momentum=0.9)))
