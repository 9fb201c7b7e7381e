_base_ = './ade20k.py'
# COCO-Stuff 10k in images/{train2014,test2014}/NAME.jpg and annotations/{train2014,test2014}/NAME_labelTrainIds.png:
# 171 classes, with the pipelines of ADE20K.
dataset_type = 'COCOStuffDataset'
data_root = '{{$DATA_ROOT:data}}/coco_stuff10k'
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/train2014', seg_map_path='annotations/train2014')))
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/test2014', seg_map_path='annotations/test2014')))
test_dataloader = val_dataloader
