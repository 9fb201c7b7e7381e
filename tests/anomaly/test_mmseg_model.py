"""The mmseg integration against mmseg's own inference and mmengine's own validation."""

import math
import warnings

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.runner import Runner
from mmseg.apis import inference_model
from mmseg.registry import MODELS
from PIL import Image

from anomaly.errors import InputError
from anomaly.mmengine.closed_set import check_whole, evaluate_closed_set, open_closed_set
from anomaly.models.base import Prediction
from anomaly.models.mmseg import MMSegModel, build_model, config_inference, pick_device
from anomaly.models.tiling import Inference
from anomaly.models.views import predict_inputs
from tests.anomaly import set_trees, tiny_segmentor


@pytest.fixture
def config(tmp_path):
    closed = tiny_segmentor.write_closed_set(tmp_path / "closed")
    return Config.fromfile(tiny_segmentor.write_config(tmp_path / "tiny.py", closed))


@pytest.fixture
def network(config, tmp_path):
    return load(config, tmp_path)


def load(config, tmp_path):
    network = build_model(config)
    path = tiny_segmentor.write_checkpoint(tmp_path / "weights.pth", config)
    network.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    return network.eval()


def ask(model, image, inference=None):
    """The size of the network's input, what it predicts of the whole image, and its logits at that size."""
    found = predict_inputs(model, model.prepare(image)[None], inference)
    return found.size, found.views[0].prediction, found.class_maps(Prediction.class_values)[0]


def test_logits_are_mmsegs_before_its_last_resize(config, network, tmp_path):
    image = set_trees.photo(7, 48, 72)
    path = set_trees.write(tmp_path / "image.png", image)
    model = MMSegModel(config, network, "cpu")
    size, prediction, logits = ask(model, image)
    assert model.gives == {"logits", "features"}
    assert size == (40, 60)  # 80x40 keeping the aspect of 72x48
    assert prediction.covers == (64, 64)  # padded
    assert prediction.logits.shape == (1, 4, 16, 16)  # the head's own resolution

    network.cfg = config
    expected = inference_model(network, str(path)).seg_logits.data
    resized = torch.nn.functional.interpolate(logits[None], size=(48, 72), mode="bilinear")[0]
    assert resized.std() > 0.1
    torch.testing.assert_close(resized, expected, rtol=1e-4, atol=1e-5)
    assert prediction.class_log_likelihood is None


def test_last_layer_makes_the_logits_of_the_features(config, network):
    model = MMSegModel(config, network, "cpu")
    _, prediction, _ = ask(model, set_trees.photo(1, 48, 64))
    weight, bias = model.linear
    logits = torch.einsum("bdhw,cd->bchw", prediction.features, weight) + bias[:, None, None]
    torch.testing.assert_close(logits, prediction.logits, rtol=1e-4, atol=1e-5)


def test_bfloat16_leaves_the_logits_in_float32(config, network):
    """Of features with 8 bits, as float64 makes them, and as many different ones as in float32."""
    image, model = set_trees.photo(1, 48, 64), MMSegModel(config, network, "cpu")
    _, prediction, _ = ask(model, image, Inference(precision="bfloat16"))
    logits, features = prediction.logits, prediction.features
    assert logits.shape == (1, 4, 16, 16)
    assert torch.equal(features, features.bfloat16().float())
    weight, bias = (each.double().numpy() for each in model.linear)
    expected = np.einsum("bdhw,cd->bchw", features.double().numpy(), weight) + bias[:, None, None]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert len(np.unique(logits.amax(1))) > 250 > len(np.unique(logits.amax(1).bfloat16().float()))


def test_network_that_does_more_after_its_last_layer(config, network):
    """Its logits are taken where they come out, at the input's resolution."""
    before = MMSegModel(config, network, "cpu")
    image = set_trees.photo(1, 48, 64)
    _, _, expected = ask(before, image)
    inner = type(network).encode_decode
    object.__setattr__(network, "encode_decode", lambda *args: 3 * inner(network, *args))
    _, prediction, logits = ask(MMSegModel(config, network, "cpu"), image)
    assert prediction.logits.shape[2:] == prediction.features.shape[2:] == (64, 64)
    torch.testing.assert_close(logits, 3 * expected, rtol=1e-4, atol=1e-5)


def test_config_says_how_the_network_is_shown_an_image(config):
    assert config_inference(config) == Inference()
    config.model.test_cfg = {"mode": "slide", "crop_size": (32, 48), "stride": (16, 24)}
    assert config_inference(config) == Inference(window=(32, 48), stride=(16, 24))


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ({"mode": "silde"}, "mode", "silde"),
        ({"mode": None}, "mode", "None"),
        ({"mode": "slide"}, "crop_size", "None"),
        ({"mode": "slide", "crop_size": (32, 32)}, "stride", "None"),
        ({"mode": "slide", "crop_size": (32, 0), "stride": (16, 16)}, "crop_size", "(32, 0)"),
        ({"mode": "slide", "crop_size": 32, "stride": (16, 16)}, "crop_size", "32"),
        ({"mode": "slide", "crop_size": (32, 32), "stride": (16, 16, 16)}, "stride", "(16, 16, 16)"),
        ({"mode": "slide", "crop_size": (32, 32), "stride": (16.5, 16)}, "stride", "(16.5, 16)"),
        ({"mode": "slide", "crop_size": ("32", True), "stride": (16, 16)}, "crop_size", "('32', True)"),
        ({"mode": "slide", "crop_size": (32, 32), "stride": (33, 16)}, "stride", "33"),
    ],
)
def test_windows_that_make_no_sense_are_refused(config, setting, name, value):
    config.model.test_cfg = setting
    with pytest.raises(InputError) as refused:
        config_inference(config)
    assert name in str(refused.value)
    assert value in str(refused.value)


def test_channels_are_rgb(config, network):
    image = set_trees.photo(1, 48, 64)
    model = MMSegModel(config, network, "cpu")
    assert not torch.allclose(ask(model, image)[2], ask(model, image[..., ::-1].copy())[2], atol=1e-2)


def test_segmentor_that_describes_is_generative(config, network):
    def describe(inputs):
        logits = network.encode_decode(inputs, [{"img_shape": inputs.shape[2:]}])
        return {"logits": logits, "class_log_likelihood": 3 * logits}

    plain = MMSegModel(config, network, "cpu")
    assert plain.classes == tiny_segmentor.CLASSES
    image = set_trees.photo(1, 48, 64)
    _, _, expected = ask(plain, image)
    object.__setattr__(network, "describe", describe)
    object.__setattr__(network, "describes", ("logits", "class_log_likelihood"))
    generative = MMSegModel(config, network, "cpu")
    assert generative.gives == {"logits", "class_log_likelihood"}
    size, prediction, logits = ask(generative, image)
    torch.testing.assert_close(logits, expected)
    likelihood = prediction.resized(size).class_log_likelihood[0]
    torch.testing.assert_close(likelihood, 3 * expected)


def test_nothing_pretrained_is_asked_for(config):
    config.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": "nowhere.pth"}
    config.model.pretrained = None
    network = build_model(config)
    assert network.backbone.init_cfg is None
    assert config.model.backbone.init_cfg is not None


@pytest.mark.slow
def test_closed_set_equals_mmengines_validation(config, network, tmp_path):
    dataset = open_closed_set(config)
    ours = evaluate_closed_set(config, network, dataset)
    runner = Runner(
        model=network,
        work_dir=str(tmp_path / "work"),
        val_dataloader=config.val_dataloader,
        val_evaluator=config.val_evaluator,
        val_cfg=config.val_cfg,
        default_scope="mmseg",
        log_level="ERROR",
    )
    theirs = runner.val()
    assert round(100 * ours.miou, 2) == pytest.approx(theirs["mIoU"], abs=0.011)
    assert round(100 * ours.macc, 2) == pytest.approx(theirs["mAcc"], abs=0.011)
    assert round(100 * ours.aacc, 2) == pytest.approx(theirs["aAcc"], abs=0.011)
    assert 0.01 < ours.miou < 0.99
    assert ours.frames == 4
    assert tuple(ours.class_iou) == tiny_segmentor.CLASSES
    assert ours.miou == pytest.approx(np.nanmean(list(ours.class_iou.values())))


def test_class_that_occurs_nowhere_has_no_iou(config, network):
    with torch.no_grad():
        network.decode_head.conv_seg.bias[3] = -1e4
    closed = evaluate_closed_set(config, network, open_closed_set(config))
    assert math.isnan(closed.class_iou["tree"])
    assert not math.isnan(closed.miou)


def test_limit_takes_the_first_frames(config, network):
    seen = []
    closed = evaluate_closed_set(config, network, open_closed_set(config), limit=2, on_frame=lambda: seen.append(1))
    assert closed.frames == len(seen) == 2
    assert evaluate_closed_set(config, network, open_closed_set(config), limit=9).frames == 4


def test_closed_set_of_another_place_is_refused(config):
    config.val_dataloader.dataset.data_root = "/nowhere"
    with pytest.raises(InputError, match=r"closed set of .*tiny.py.*/nowhere.*--no-closed-set"):
        open_closed_set(config)


@pytest.mark.parametrize("suffix", [".jpg", ".PNG", ".bmp"])
@pytest.mark.parametrize("label", [".png", ".PNG"])
def test_closed_set_frames_that_mmseg_passes_over_are_refused(config, tmp_path, suffix, label):
    for folder, ending in (("images", suffix), ("labels", label)):
        path = tmp_path / "closed" / folder / "2.png"
        path.rename(path.with_suffix(ending))
    message = rf"expected images that end in \.png .* found .*closed/images/2\{suffix} with a label map \(1 such frames"
    with pytest.raises(InputError, match=message):
        open_closed_set(config)


def test_pictures_that_are_no_frame_of_the_closed_set_are_told(config, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_closed_set(config)) == 4
    (tmp_path / "closed/images/2.png").unlink()
    (tmp_path / "closed/images/more.webp").write_bytes(b"")
    with pytest.warns(
        UserWarning, match=r"2 files such as .*more\.webp belong to none of its 3 frames and are ignored"
    ):
        assert len(open_closed_set(config)) == 3


def test_frames_that_a_file_names_are_all_of_the_closed_set(config, tmp_path):
    (tmp_path / "closed/list.txt").write_text("0\n3\n")
    (tmp_path / "closed/images/1.png").rename(tmp_path / "closed/images/1.jpg")
    config.val_dataloader.dataset.ann_file = "list.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_closed_set(config)) == 2


@pytest.mark.parametrize("kind", [RepeatDataset, ConcatDataset])
def test_frames_are_looked_for_in_datasets_of_datasets(config, tmp_path, kind):
    part = open_closed_set(config)
    (tmp_path / "closed/images/1.png").rename(tmp_path / "closed/images/1.jpg")
    whole = RepeatDataset(part, 2) if kind is RepeatDataset else ConcatDataset([part])
    with pytest.raises(InputError, match=r"training data: expected images .*1\.jpg with a label map"):
        check_whole(whole, "training data")


def test_a_link_to_nothing_in_the_closed_set_is_refused(config, tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "closed" / folder / "9.png").symlink_to("gone")
    with pytest.raises(InputError, match=r"images/9\.png: .*leads to nothing"):
        open_closed_set(config)


@pytest.mark.slow
def test_unreadable_closed_set_frame_is_named(config, network, tmp_path):
    (tmp_path / "closed" / "labels" / "2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"closed/labels/2\.png: expected a complete image"):
        evaluate_closed_set(config, network, open_closed_set(config))
    (tmp_path / "closed" / "images" / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"closed/images/1\.png"):
        evaluate_closed_set(config, network, open_closed_set(config))


def test_closed_set_label_of_another_size_is_named(config, network, tmp_path):
    cv2.imwrite(str(tmp_path / "closed" / "labels" / "1.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(InputError, match=r"the same size, found \(48, 64\).*\(10, 10\).*labels/1\.png"):
        evaluate_closed_set(config, network, open_closed_set(config))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("folder", ["images", "labels"])
def test_truncated_closed_set_file_is_named(config, network, tmp_path, monkeypatch, folder, suffix):
    path = tmp_path / "closed" / folder / "1.png"
    whole = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    encoded = cv2.imencode(suffix, whole)[1].tobytes()
    path.write_bytes(encoded[: len(encoded) * 3 // 4])
    lenient = cv2.imdecode  # some versions of OpenCV give None for a truncated PNG, some fill it up
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: whole if (d := lenient(data, flags)) is None else d)
    with pytest.raises(InputError, match=rf"closed/{folder}/1\.png: expected a complete image"):
        evaluate_closed_set(config, network, open_closed_set(config))


def test_image_that_only_mmcv_cannot_read_is_named(config, network, tmp_path):
    path = tmp_path / "closed" / "images" / "2.png"
    Image.open(path).save(path, "PCX")
    with pytest.raises(InputError, match=r"closed/images/2\.png with its label .*closed/labels/2\.png"):
        evaluate_closed_set(config, network, open_closed_set(config))


@pytest.mark.parametrize("value", [4, 200, 254])
def test_undefined_closed_set_label_is_named(config, network, tmp_path, value):
    path = tmp_path / "closed" / "labels" / "1.png"
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    label[0, 0] = value
    cv2.imwrite(str(path), label)
    with pytest.raises(InputError, match=rf"labels/1\.png: .*0 to 3 and 255 .*found also \[{value}\]; use"):
        evaluate_closed_set(config, network, open_closed_set(config))


def test_closed_set_label_above_255_does_not_wrap(config, network, tmp_path):
    cv2.imwrite(str(tmp_path / "closed" / "labels" / "1.png"), np.full((48, 64), 256, np.uint16))
    with pytest.raises(InputError, match=r"labels/1\.png: .*0 to 255, found values from 256"):
        evaluate_closed_set(config, network, open_closed_set(config))


@pytest.mark.parametrize("name", ["IoUMetric", "mmseg.IoUMetric"])
def test_ignored_label_is_the_configs(config, network, tmp_path, name):
    label = np.zeros((48, 64), np.uint8)
    label[:24] = 77
    for i in range(4):
        cv2.imwrite(str(tmp_path / "closed" / "labels" / f"{i}.png"), label)
    config.val_evaluator = {"type": name, "ignore_index": 77}
    closed = evaluate_closed_set(config, network, open_closed_set(config))
    assert closed.aacc == closed.macc == closed.class_iou["road"] > 0


UNBUILDABLE = [
    ({"type": "NoSuchSegmentor"}, "NoSuchSegmentor"),
    ({"no_such_argument": 1}, "no_such_argument"),
    ({"decode_head": {"in_index": [0, 1]}}, "AssertionError$"),
    ({"decode_head": {"out_channels": 3}}, "out_channels should be"),
]


@pytest.mark.parametrize(("change", "reason"), UNBUILDABLE)
def test_network_that_cannot_be_built_is_refused(config, change, reason):
    config.merge_from_dict({"model": change})
    with pytest.raises(InputError, match=rf"tiny\.py: its network cannot be built: .*{reason}"):
        build_model(config)


class ForeignInputError(ValueError):
    """Stands for the error of a network's own library."""


ForeignInputError.__name__ = "InputError"


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (AttributeError("no attribute 'x'"), InputError, r"tiny\.py: its network cannot be built: no attribute 'x'$"),
        (ForeignInputError("components must be at least 1"), ForeignInputError, "^components must be at least 1$"),
    ],
)
def test_refusal_by_the_network_itself(config, monkeypatch, error, expected, message):
    def refuse(settings):
        raise error

    monkeypatch.setattr(MODELS, "build", refuse)
    with pytest.raises(expected, match=message):
        build_model(config)


def test_network_with_one_logit_is_refused(config):
    config.model.decode_head.update(num_classes=2, out_channels=1, threshold=0.3)
    config.model.decode_head.loss_decode.use_sigmoid = True
    with pytest.raises(InputError, match=r"tiny\.py: .*found out_channels=1, .*out_channels=2"):
        MMSegModel(config, build_model(config), "cpu")


def test_config_without_a_network_is_refused(config):
    config.pop("model")
    with pytest.raises(InputError, match="expected a 'model', found none"):
        build_model(config)


def test_config_without_preprocessing_is_refused(config, network):
    config.pop("test_dataloader")
    MMSegModel(config, network, "cpu")  # test_pipeline serves as well
    config.pop("test_pipeline")
    with pytest.raises(InputError, match="expected test_dataloader"):
        MMSegModel(config, network, "cpu")


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("nonsense", "cuda:99"):
        with pytest.raises(InputError, match=f"device '{name}'"):
            pick_device(name)
