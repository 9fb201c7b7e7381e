"""``--cfg-options``: what has an effect is accepted, and anything else is refused with the nearest valid name."""

import sys
from pathlib import Path

import mmseg
import pytest
import torch

import anomaly.errors
from tests.anomaly import tiny_segmentor
from tests.test_train import CONFIG, call  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("configs/demo/*.py", "configs/gmmseg/*camvid*.py", "configs/softmax/ocrnet*ade20k*.py")


@pytest.fixture
def read(monkeypatch):
    """Read the demo's config, or another, with options as a tool does; give the config."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("DATA_ROOT", "data")
    from anomaly.cli.config_options import Reads
    from anomaly.cli.mmseg_config import read_config

    def read_with(*options, config=CONFIG, **reads):
        return read_config(Path(config), options, reads=Reads(**reads))

    return read_with


def refusal(read, *options, **how):
    with pytest.raises(anomaly.errors.InputError) as refused:
        read(*options, **how)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("option", "nearest"),
    [
        # top level
        ("modle.decode_head.num_classes=3", "model"),
        ("tset_cfg.mode=slide", "test_cfg"),
        ("load_form=x.pth", "load_from"),
        ("runner_type=Runner", "randomness"),  # mmseg's own tool reads it
        ("custom_imports.imports=os", "custom_hooks"),  # imported when the file is read
        # arguments of classes, of their bases, and of what takes **kwargs only to hand them on
        ("model.nekc=None", "neck"),
        ("model.decode_head.nmu_classes=3", "num_classes"),
        ("model.decode_head.interpolate_mod=nearest", "interpolate_mode"),
        ("model.decode_head.mixtures.num_components=3", "mixture"),
        ("model.backbone.pretraned=False", "pretrained"),
        ("model.data_preprocessor.sice=3,3", "size"),
        ("model.decode_head.norm_cfg.epps=1", "eps"),
        ("model.decode_head.loss_decode.los_weight=1", "loss_weight"),
        ("optim_wrapper.optimizer.weight_decy=0", "weight_decay"),
        ("optim_wrapper.accumulative_count=2", "accumulative_counts"),
        ("param_scheduler.1.ends=3", "end"),
        ("train_cfg.max_iter=3", "max_iters"),
        ("val_evaluator.iou_metric=mFscore", "iou_metrics"),
        ("train_dataloader.dataset.pipeline.3.cropsize=3,3", "crop_size"),
        ("train_dataloader.dataset.img_sufix=.png", "img_suffix"),
        ("train_dataloader.sampler.shufle=False", "shuffle"),
        ("default_hooks.logger.intervall=3", "interval"),
        ("default_hooks.checkpoint.intervall=3", "interval"),
        ("custom_hooks.0.intervall=3", "interval"),
        ("visualizer.vis_backends.0.savedir=x", "save_dir"),
        ("log_processor.window_sice=3", "window_size"),
        # dicts that are no arguments of a class
        ("train_dataloader.batchsize=3", "batch_size"),
        ("model.test_cfg.mod=slide", "mode"),
        ("model.data_preprocessor.test_cfg.size_divider=32", "size_divisor"),
        ("env_cfg.cudnn_benchmak=False", "cudnn_benchmark"),
        ("env_cfg.mp_cfg.opencv_threads=1", "opencv_num_threads"),
        ("randomness.sed=1", "seed"),
        ("optim_wrapper.clip_grad.maxnorm=1", "max_norm"),
        ("optim_wrapper.paramwise_cfg.norm_decay_mul=0", "norm_decay_mult"),
        ("optim_wrapper.paramwise_cfg.custom_keys.head.lr_mul=10", "lr_mult"),
        ("train_dataloader.dataset.data_prefix.img_paths=x", "img_path"),
        ("train_dataloader.dataset.metainfo.clases=a,b", "classes"),
        ("default_hooks.timr=None", "timer"),
        ("model.test_cfg.type=slide", "mode"),
        ("model.train_cfg.mode=slide", "model.test_cfg.mode"),
        ("train_dataloader.type=DataLoader", "train_dataloader.dataset.type"),
        ("auto_scale_lr.enabled=True", "enable"),  # of a dict that is not in the file
        ("compile.mod=default", "mode"),
        # a name that is somewhere else
        ("model.num_classes=3", "model.decode_head.num_classes"),
        ("train_cfg.lr=3", "max_iters"),
        ("optim_wrapper.lr=3", "optim_wrapper.optimizer.lr"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest(read, option, nearest):
    message = refusal(read, option)
    assert option in message
    assert nearest in message.replace(option, "").replace(option.partition("=")[0], "")


@pytest.mark.parametrize(
    "options",
    [
        # of the documents and of other tests
        ["model.decode_head.mixture.num_components=3"],
        ["train_dataloader.batch_size=4", "randomness.seed=1"],
        ["load_from=softmax.pth"],
        ["model.backbone.init_cfg=None"],
        ["model.backbone.init_cfg.type=Pretrained", "model.backbone.init_cfg.checkpoint=none.pth"],
        ["model.data_preprocessor.size=(64,96)", "test_dataloader.persistent_workers=False"],
        ["test_dataloader.dataset.metainfo.classes=a,b"],
        # that are not in the file
        ["optim_wrapper.clip_grad.max_norm=1"],
        ["optim_wrapper.clip_grad.type=value", "optim_wrapper.clip_grad.clip_value=1"],
        ["optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult=10"],
        ["optim_wrapper.loss_scale=dynamic"],  # for --amp
        ["default_hooks.checkpoint.save_best=mIoU", "default_hooks.checkpoint.save_memory=False"],
        ["default_hooks.early.type=EarlyStoppingHook", "default_hooks.early.monitor=mIoU"],
        ["default_hooks.guard=None", "default_hooks.runtime_info=None"],
        ["custom_hooks.0.priority=LOW", "custom_hooks.0.interval=3"],
        ["model.decode_head.norm_cfg.type=GN", "model.decode_head.norm_cfg.num_groups=4"],
        ["model.backbone.depth=18", "model.backbone.type=ResNet", "model.backbone._delete_=True"],
        ["model.test_cfg.mode=slide", "model.test_cfg.crop_size=(64,64)", "model.test_cfg.stride=(32,32)"],
        ["model.data_preprocessor.test_cfg.size_divisor=32"],
        ["model.decode_head.sampler.type=OHEMPixelSampler", "model.decode_head.sampler.thresh=0.7"],
        ["param_scheduler.0.convert_to_iter_based=True", "param_scheduler.1.power=0.9"],
        ["train_dataloader.num_batch_per_epoch=3", "train_dataloader.prefetch_factor=2"],
        ["train_dataloader.sampler.type=gmmseg.ClassBalancedSampler", "train_dataloader.dataset.indices=3"],
        ["train_dataloader.dataset.backend_args.backend=local"],
        ["env_cfg.dist_cfg.timeout=1800", "env_cfg.resource_limit=4096"],
        ["auto_scale_lr.enable=True", "auto_scale_lr.base_batch_size=16"],
        ["find_unused_parameters=True", "compile.mode=default", "experiment_name=a", "work_dir=b", "resume=True"],
        ["visualizer.vis_backends.0.type=TensorboardVisBackend", "log_level=DEBUG"],
    ],
)
def test_what_has_an_effect_is_set(read, options):
    from mmengine.config import DictAction

    config = read(*options)
    for option in options:
        key, _, text = option.partition("=")
        node = config
        for part in [] if key.endswith("_delete_") else key.split("."):
            node = node[int(part) if part.isdigit() else part]
        assert key.endswith("_delete_") or node == DictAction._parse_iterable(text)


def test_a_class_that_is_replaced_is_replaced_whatever_the_order(read):
    options = ["model.backbone.depth=18", "model.backbone.type=ResNet", "model.backbone._delete_=True"]
    assert read(*options).model.backbone == read(*options[::-1]).model.backbone == {"type": "ResNet", "depth": 18}


def every_key(node, path=()):
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(child, dict | list | tuple):
            yield from every_key(child, (*path, key))


@pytest.mark.slow
def test_no_key_of_a_config_that_is_run_is_refused(read):
    """Of ours, and of mmseg's with other heads, backbones and constructors, where these are installed."""
    from mmengine.config import Config

    from anomaly.cli.config_options import ALL, _names

    theirs = Path(mmseg.__path__[0], ".mim/configs")
    files = [path for pattern in NAMES for path in sorted(ROOT.glob(pattern))]
    files += [
        *theirs.glob("pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py"),
        *theirs.glob("ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py"),
        *theirs.glob("beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py"),
        *theirs.glob("stdc/stdc1_4xb12-80k_cityscapes-512x1024.py"),
        *theirs.glob("point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py"),
        *theirs.glob("segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py"),
    ]
    assert len(files) > 5
    seen = 0
    for file in files:
        config = Config.fromfile(file)._cfg_dict
        for path in every_key({name: part for name, part in config.items() if name in ALL}):
            node = config
            for part in path[:-1]:
                node = node[part]
            if len(path) == 1 or not isinstance(node, dict) or path[-1] == "type":
                continue
            names = _names(".".join(map(str, path[:-1])), node if "type" not in node else {}, node, config)
            assert names is None or path[-1] in names, (file.name, path)
            seen += 1
    assert seen > 500


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("crop_size=(64,64)", "train_dataloader.dataset.pipeline.3.crop_size"),
        ("data_root=elsewhere", "train_dataloader.dataset.data_root"),
        ("train_pipeline.3.crop_size=(64,64)", "train_dataloader.dataset.pipeline.3.crop_size"),
        ("test_pipeline.1.scale=(64,64)", "test_dataloader.dataset.pipeline.1.scale"),
        ("metainfo.classes=a,b", "val_dataloader.dataset.metainfo.classes"),
        ("max_iters=3", "train_cfg.max_iters"),
        ("mixture.num_components=3", "variable of the config file"),
        ("vis_backends.0.save_dir=x", "visualizer.vis_backends.0.save_dir"),
        ("data_preprocessor.size=(64,64)", "model.data_preprocessor.size"),
    ],
)
def test_a_variable_of_the_file_is_refused_and_its_places_are_named(read, option, place):
    assert place in refusal(read, option)
    if "." in place:  # where its value stands indeed
        assert place.split(".")[0] in read(option.replace(option.partition("=")[0], place))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["randomness.seed=1", "randomness.seed=2"], "randomness.seed"),
        (["randomness.seed=1", "log_level=INFO", "randomness.seed=1"], "randomness.seed"),
        (["model.backbone=None", "model.backbone.num_stages=2"], "model.backbone.num_stages"),
        (["model.backbone.num_stages=2", "model.backbone=None"], "model.backbone.num_stages"),
        (["model.test_cfg.crop_size=(64,64)"], "model.test_cfg.mode=slide"),
        (["model.test_cfg.stride=(64,64)"], "model.test_cfg.mode=slide"),
        (["auto_scale_lr.base_batch_size=8"], "auto_scale_lr.enable=True"),
        (["train_dataloader.num_workers=0", "train_dataloader.persistent_workers=True"], "num_workers above 0"),
        (["model.backbone._delete_=False"], "_delete_"),
        (["=3"], "KEY=VALUE"),
        (["model..type=3"], "model"),
        (["param_scheduler.9.end=3"], "does not fit"),
        (["model.decode_head.in_channels.x=3"], "does not fit"),
        (["log_level.x=3"], "does not fit"),
    ],
)
def test_options_that_contradict_each_other_or_the_config(read, options, named):
    assert named in refusal(read, *options)


def test_what_a_tool_does_not_read_is_refused(read):
    from anomaly.cli.config_options import CHECKPOINT_FOLLOWS, CLOSED_SET, LOOKING, NETWORK, TESTING

    training = ("train_cfg.max_iters=3", "optim_wrapper.optimizer.lr=1", "load_from=x", "resume=True", "launcher=mpi")
    for keys in (NETWORK, LOOKING, TESTING):
        for option in training:
            assert option in refusal(read, option, keys=keys)
    looking = "test_dataloader.dataset.pipeline.1.scale=(64,64)"
    assert read(looking, keys=LOOKING)
    assert looking in refusal(read, looking, keys=NETWORK)
    assert "test_dataloader.dataset.pipeline" in refusal(read, "test_dataloader.batch_size=3", keys=LOOKING)
    assert read("test_dataloader.batch_size=3", keys=TESTING)
    assert read("val_dataloader.dataset.metainfo.classes=a,b", keys=LOOKING)
    ignored, suffix = "val_evaluator.ignore_index=0", "val_dataloader.dataset.img_suffix=.png"
    for option in (ignored, suffix):
        assert read(option, keys=(*LOOKING, *CLOSED_SET))
        assert option in refusal(read, option, keys=LOOKING)
    for option in ("model.backbone.pretrained=False", "model.backbone.init_cfg.type=Pretrained", "model.pretrained=x"):
        assert "checkpoint" in refusal(read, option, keys=NETWORK, but=CHECKPOINT_FOLLOWS)


def test_a_test_pipeline_is_read_where_no_loader_has_one(read, tmp_path):
    from anomaly.cli.config_options import LOOKING

    tiny_segmentor.write_config(tmp_path / "tiny.py", tmp_path)
    option = "test_pipeline.1.scale=(64,64)"
    message = refusal(read, option, config=tmp_path / "tiny.py", keys=LOOKING)
    assert "test_dataloader.dataset.pipeline.1.scale" in message
    text = (tmp_path / "tiny.py").read_text().replace("test_dataloader = val_dataloader", "")
    (tmp_path / "tiny.py").write_text(text)
    assert read(option, config=tmp_path / "tiny.py", keys=LOOKING).test_pipeline[1].scale == (64, 64)


class Sink:
    """Takes what it does not know, and passes it over."""

    def __init__(self, known=1, **kwargs):
        self.known = known


class Elsewhere:
    """Takes what it does not know for something else."""

    def __init__(self, known=1, **kwargs):
        self.others = dict(kwargs)


class Asking(Sink):
    """Takes out what it knows, and hands on the rest."""

    def __init__(self, own=1, **rest):
        self.taken = rest.pop("taken", 0)
        if "asked" in rest:
            rest["given"] = rest["asked"]
        super().__init__(**rest)


class Plain(Asking):
    """Has no ``__init__`` of its own."""


def function(first, *, second=2):
    return first, second


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Sink, {"known"}),
        (Elsewhere, None),
        (Asking, {"own", "taken", "asked", "given", "known"}),
        (Plain, {"own", "taken", "asked", "given", "known"}),
        (function, {"first", "second"}),
        (torch.nn.ReLU, {"inplace"}),
        (torch.nn.Identity, set()),  # passes over whatever it is given
        (object, set()),
    ],
)
def test_names_that_a_class_knows(read, kind, names):
    from anomaly.cli.config_options import _parameters

    assert _parameters(kind) == names
