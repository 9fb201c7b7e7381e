"""Networks of Hugging Face: equal to the library's own model and processor, and what is refused."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import anomaly
from anomaly.errors import InputError
from anomaly.models.huggingface import HuggingFaceModel, class_names
from anomaly.models.views import predict_image
from anomaly.scores.registry import SCORES
from tests.anomaly import tiny_huggingface as tiny
from tests.commands import status_of
from tests.stored_maps import FOLDERS

transformers = tiny.transformers
IMAGE = np.random.default_rng(0).integers(0, 255, (50, 75, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A folder with a subfolder of ``save_pretrained`` for each tiny network."""
    folder = tmp_path_factory.mktemp("networks")
    for name in tiny.NETWORKS:
        tiny.write_network(folder, name)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing here may open a connection."""

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def library(folder, image, **settings):
    """What the library's own network returns for an image prepared by its own processor."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    kind = transformers.AutoModelForSemanticSegmentation
    if folder.name in tiny.MASKS:
        kind = transformers.AutoModelForUniversalSegmentation
    network = kind.from_pretrained(folder).eval()
    prepared = processor(image, return_tensors="pt", input_data_format="channels_last", **settings)
    prepared.pop("patch_offsets", None)
    with torch.no_grad():
        return network(**prepared), prepared, network


@pytest.mark.parametrize("name", tiny.SEMANTIC)
def test_logits_equal_the_library(networks, name):
    settings = {"do_center_crop": False} if name == "mobilevit" else {}  # every pixel is scored
    expected, prepared, network = library(networks / name, IMAGE, **settings)
    model = anomaly.load_model(networks / name)
    inputs = model.prepare(IMAGE)
    found = model(inputs[None])
    assert torch.equal(inputs, prepared["pixel_values"][0])
    assert torch.allclose(found.logits, expected.logits, atol=1e-5)
    assert found.covers == tuple(inputs.shape[1:])
    assert model.classes == tiny.CLASSES
    layers = [each for path, each in network.named_modules() if "auxiliary" not in path]
    last = [each for each in layers if isinstance(each, torch.nn.Conv2d) and each.out_channels == len(tiny.CLASSES)][-1]
    again = last(found.features)
    align = name.startswith("dpt")
    again = F.interpolate(again, found.logits.shape[2:], mode="bilinear", align_corners=align)
    assert torch.allclose(again, found.logits, atol=1e-5)


@pytest.mark.parametrize("name", tiny.MASKS)
def test_masks_and_class_probabilities_equal_the_library(networks, name):
    expected, prepared, _ = library(networks / name, IMAGE)
    model = anomaly.load_model(networks / name)
    found = model(model.prepare(IMAGE)[None])
    assert torch.allclose(found.query_class_prob, expected.class_queries_logits.softmax(-1), atol=1e-5)
    assert torch.allclose(found.mask_logits, expected.masks_queries_logits, atol=1e-5)
    assert found.covers == tuple(prepared["pixel_values"].shape[2:])
    if "pixel_decoder_last_hidden_state" in expected:
        assert torch.allclose(found.features, expected.pixel_decoder_last_hidden_state, atol=1e-5)
    assert found.features.shape[2:] == found.mask_logits.shape[2:]


def formulas(prob, masks):
    """Every score of a mask classifier in float64, query by query."""
    prob, masks = prob.double().numpy(), 1 / (1 + np.exp(-masks.double().numpy()))
    known = prob[:, :-1]
    sums = sum(p[:, None, None] * m for p, m in zip(known, masks, strict=True))
    shares = sums / sums.sum(0)
    return {
        "rba": -np.tanh(sums).sum(0),
        "eam": 1 - sum(p.max() * m for p, m in zip(known, masks, strict=True)),
        "max_class_sum": -sums.max(0),
        "mask_entropy": -(shares * np.log(shares)).sum(0),
        "no_object": sum(p * m for p, m in zip(prob[:, -1], masks, strict=True)),
    }


@pytest.mark.parametrize("name", tiny.MASKS)
def test_scores_of_masks_equal_their_formulas(networks, name):
    expected, _, _ = library(networks / name, IMAGE)
    oracle = formulas(expected.class_queries_logits[0].softmax(-1), expected.masks_queries_logits[0])
    model = anomaly.load_model(networks / name)
    prediction = model(model.prepare(IMAGE)[None])
    for score, values in oracle.items():
        np.testing.assert_allclose(SCORES[score](prediction)[0], values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "kept"), [("mask2former", (64, 96)), ("eomt", (43, 64)), ("maskformer", (64, 96))])
def test_score_maps_come_back_to_the_image_without_the_padding(networks, name, kept):
    expected, prepared, _ = library(networks / name, IMAGE)
    values = formulas(expected.class_queries_logits[0].softmax(-1), expected.masks_queries_logits[0])["rba"]
    whole = F.interpolate(
        torch.from_numpy(values)[None, None], prepared["pixel_values"].shape[2:], mode="bilinear", align_corners=False
    )
    inside = whole[:, :, : kept[0], : kept[1]]
    oracle = F.interpolate(inside, IMAGE.shape[:2], mode="bilinear", align_corners=False)[0, 0]
    found = anomaly.score(anomaly.load_model(networks / name), IMAGE, "rba")
    np.testing.assert_allclose(found, oracle, atol=1e-5)


def test_class_maps_are_those_of_the_library(networks):
    from anomaly.evaluation.score_maps import predicted_classes

    expected, _, _ = library(networks / "maskformer", IMAGE)
    processor = transformers.AutoImageProcessor.from_pretrained(networks / "maskformer", backend="pil")
    (oracle,) = processor.post_process_semantic_segmentation(expected, target_sizes=[(64, 96)])
    prediction = predict_image(anomaly.load_model(networks / "maskformer"), IMAGE)
    assert (predicted_classes(prediction, (64, 96)) == oracle.numpy()).mean() > 0.999  # ties of rounding


def test_a_processor_that_splits_images_becomes_sliding_windows(tmp_path):
    network, processor = tiny.eomt(split=True)
    model = HuggingFaceModel(network.eval(), processor, device="cpu")
    assert model.inference.window == model.inference.stride == (64, 64)
    patches = processor(IMAGE, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    inputs = model.prepare(IMAGE)
    assert inputs.shape == (3, 64, 96)
    prediction = predict_image(model, IMAGE, model.inference)
    assert len(prediction.views) == len(patches) == 2
    for one, patch in zip(prediction.views, patches, strict=True):
        assert torch.equal(inputs[:, one.view.rows, one.view.columns], patch)
        with torch.no_grad():
            masks = network(pixel_values=patch[None]).masks_queries_logits
        assert torch.allclose(one.prediction.mask_logits, masks, atol=1e-5)
    assert model.record["preprocessing"]["split_image"] == "left out"


@pytest.mark.parametrize("name", ["segformer", "mask2former"])
def test_views_and_batches_change_nothing_else(networks, name):
    model = anomaly.load_model(networks / name)
    inputs = torch.stack(
        [model.prepare(IMAGE), model.prepare(IMAGE[::-1].copy()), model.prepare(IMAGE[:, ::-1].copy())]
    )
    together, alone = model(inputs), [model(each[None]) for each in inputs]
    for field in model.gives:
        one_by_one = torch.cat([getattr(each, field) for each in alone])
        assert torch.allclose(getattr(together, field), one_by_one, atol=1e-5)
    flipped = anomaly.score(model, IMAGE, inference=anomaly.Inference(flip=True))
    mirrored = anomaly.score(model, IMAGE[:, ::-1].copy(), inference=anomaly.Inference(flip=True))
    np.testing.assert_allclose(flipped, mirrored[:, ::-1], atol=1e-4)


def test_oneformer_is_asked_for_the_semantic_task(tmp_path):
    words = ["<|startoftext|>", "<|endoftext|>", "the</w>", "task</w>", "is</w>", "semantic</w>"]
    letters = sorted({letter for word in words[2:] for letter in word.removesuffix("</w>")})
    vocabulary = [*words, *letters, *(f"{letter}</w>" for letter in letters)]
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    config = transformers.OneFormerConfig(
        backbone_config=tiny.swin(),
        num_queries=7,
        hidden_dim=32,
        conv_dim=32,
        mask_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        dim_feedforward=32,
        num_attention_heads=2,
        text_encoder_width=16,
        text_encoder_num_layers=1,
        text_encoder_context_length=77,
        text_encoder_vocab_size=100,
        task_seq_len=77,
        is_training=False,
        **tiny.LABELS,
    )
    network = transformers.OneFormerForUniversalSegmentation(config).eval()
    (tmp_path / "metadata.json").write_text(
        json.dumps({str(i): {"name": name, "isthing": False} for i, name in enumerate(tiny.CLASSES)})
    )
    images = transformers.OneFormerImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 200}, repo_path=str(tmp_path), class_info_file="metadata.json"
    )
    processor = transformers.OneFormerProcessor(images, tokenizer)
    folder = tmp_path / "oneformer"
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    prepared = processor(IMAGE, ["semantic"], return_tensors="pt", input_data_format="channels_last")
    with torch.no_grad():
        expected = network(pixel_values=prepared["pixel_values"], task_inputs=prepared["task_inputs"])
    model = anomaly.load_model(folder)
    found = model(model.prepare(IMAGE)[None])
    assert torch.allclose(found.mask_logits, expected.masks_queries_logits, atol=1e-5)
    assert torch.allclose(found.query_class_prob, expected.class_queries_logits.softmax(-1), atol=1e-5)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The current folder has images and label maps whose sides are multiples of nothing."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number, size in enumerate([(37, 53), (41, 31), (37, 53)]):
        label = np.zeros(size, np.uint8)
        label[5:15, 4 : 14 + number] = 1
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(f"images/{number}.png")
        Image.fromarray(label).save(f"labels/{number}.png")
    return FOLDERS


@pytest.mark.parametrize("name", tiny.NETWORKS)
def test_from_a_folder_to_results_and_report_in_one_command(networks, name, folders):
    words = ("--model", networks / name, *folders, "--report", "--out", "out", "--heatmaps", "none")
    assert status_of("anomaly", "evaluate", *words) == 0
    record = json.loads(Path("out/results.json").read_text())
    assert record["model"]["name"] == name
    assert record["model"]["preprocessing"]["maps"].startswith("resized bilinearly to the input, padding cut off")
    assert record["provenance"]["model"]["files"].keys() >= {"config.json", "model.safetensors"}
    page = Path("out/report.html").read_text()
    assert all(label in page for label in tiny.CLASSES)


@pytest.mark.parametrize(("name", "other"), [("segformer", "beit"), ("mask2former", "maskformer")])
def test_a_result_is_measured_again_and_another_network_is_noticed(networks, name, other, folders, capsys):
    assert status_of("anomaly", "evaluate", "--model", networks / name, *folders, "--out", "out", "--batch", "2") == 0
    again = ("--folder", "images", "labels")
    assert status_of("anomaly", "verify", "out", "--model", networks / name, *again) == 0
    capsys.readouterr()
    assert status_of("anomaly", "verify", "out", "--model", networks / other, *again) == 1
    assert "model: another file" in capsys.readouterr().out


def test_weights_in_memory_are_recorded(networks):
    model = anomaly.load_model(networks / "segformer")
    before = model.record["weights"]
    assert anomaly.load_model(networks / "segformer").record["weights"] == before
    with torch.no_grad():
        next(model.network.parameters()).add_(1)
    assert model.record["weights"] != before


# ---- what is refused, each in one sentence


def damaged(networks, tmp_path, name="segformer"):
    return shutil.copytree(networks / name, tmp_path / "network")


def change_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def without_processor(folder):
    (folder / "preprocessor_config.json").unlink()


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def pickled(folder):
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def truncated(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:1000])


def without_a_tensor(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop("decode_head.classifier.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def of_custom_code(folder):
    (folder / "modeling_mine.py").write_text("raise SystemExit('executed')\n")
    change_config(folder, model_type="mine", auto_map={"AutoConfig": "modeling_mine.Config"})


def of_classification(folder):
    change_config(folder, architectures=["SegformerForImageClassification"])


def unreadable(folder):
    (folder / "config.json").write_text("{")


def of_more_classes(folder):
    change_config(folder, id2label=dict(enumerate("abcde")), label2id={name: i for i, name in enumerate("abcde")})


class Malicious:
    def __reduce__(self):
        return print, ("executed",)


def of_a_list(folder):
    (folder / "preprocessor_config.json").write_text("[]")


def of_another_step(folder):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "do_thumbnail": True}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_processor, "expected an image processor .preprocessor_config.json., found none"),
        (without_weights, "expected weights .model.safetensors., found none"),
        (pickled, "only pytorch_model.bin, which is a pickle; .* --allow-pickle"),
        (truncated, "expected a network and a processor that transformers can read, found SafetensorError"),
        (without_a_tensor, "found none for 1 tensors, such as decode_head.classifier.weight"),
        (of_more_classes, "id2label names 5 classes, found decode_head.classifier.* in place of"),
        (of_a_list, "expected an image processor .preprocessor_config.json., found none"),
        (of_custom_code, "found custom code, which is never executed"),
        (of_classification, "expected a network for semantic or universal .* found SegformerForImageClassification"),
        (unreadable, "expected the config.json of a network of transformers, found none that can be read"),
        (of_another_step, "found one with do_thumbnail"),
    ],
)
def test_a_folder_that_cannot_be_used_is_told(networks, tmp_path, change, message):
    folder = damaged(networks, tmp_path)
    change(folder)
    with pytest.raises(InputError, match=message) as error:
        anomaly.load_model(folder)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_read_if_asked(networks, tmp_path):
    folder = damaged(networks, tmp_path)
    pickled(folder)
    found = anomaly.load_model(folder, allow_pickle=True)
    expected = anomaly.load_model(networks / "segformer")
    inputs = expected.prepare(IMAGE)[None]
    assert torch.equal(found(inputs).logits, expected(inputs).logits)


def test_a_pickle_of_something_else_is_refused(networks, tmp_path, capsys):
    folder = damaged(networks, tmp_path)
    pickled(folder)
    torch.save({"weight": Malicious()}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"refused: expected only tensors and plain containers, found .*print"):
        anomaly.load_model(folder, allow_pickle=True)
    (folder / "pytorch_model.bin").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"pytorch_model.bin cannot be read"):
        anomaly.load_model(folder, allow_pickle=True)
    assert "executed" not in capsys.readouterr().out


def test_a_hub_id_without_network_tells_how_to_use_a_folder(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hf download nobody/nothing --local-dir FOLDER.*--model FOLDER"):
        anomaly.load_model("nobody/nothing")


@pytest.mark.parametrize("text", ["net.onnx", "weights.pth", "a/b/c", "two words"])
def test_what_is_no_specification_is_told(text):
    with pytest.raises(InputError, match="a config and a checkpoint, a folder or hub id of Hugging Face"):
        anomaly.load_model(text)


def test_pickles_are_asked_for_only_where_they_may_be(networks, capsys):
    assert status_of("anomaly", "look", ".", "--out", "x.html", "--model", "a.py:b", "--allow-pickle") == 2
    assert "--allow-pickle: expected a folder or hub id" in capsys.readouterr().err


def test_one_query_is_refused(networks):
    network, processor = tiny.mask2former(queries=1)
    model = HuggingFaceModel(network, processor, device="cpu")
    with pytest.raises(InputError, match="at least two queries, found one"):
        model(model.prepare(IMAGE)[None])


def test_classes_that_are_no_classes_of_the_network_are_refused(networks):
    loaded = anomaly.load_model(networks / "maskformer")
    model = HuggingFaceModel(loaded.network, loaded._processor, classes=(*tiny.CLASSES, "void"), device="cpu")
    with pytest.raises(InputError, match="of 5 classes and of no object, which comes last, found 5 probabilities"):
        model(model.prepare(IMAGE)[None])


def test_numbered_labels_are_no_names():
    assert class_names({0: "LABEL_0", 1: "LABEL_1"}) == ()
    assert class_names({"1": "car", "0": "road"}) == ("road", "car")
    with pytest.raises(InputError, match="id2label: expected the classes 0 to 1"):
        class_names({0: "road", 2: "car"})


def test_inputs_of_another_size_are_refused_where_the_network_has_one_size(networks):
    with pytest.raises(InputError, match=r"EomtForUniversalSegmentation on an input of 32x22 .* failed with"):
        anomaly.score(anomaly.load_model(networks / "eomt"), IMAGE, inference=anomaly.Inference(scales=(0.5,)))


def test_nan_is_refused_with_the_name_of_the_score(networks):
    model = anomaly.load_model(networks / "mask2former")
    with torch.no_grad():
        for value in model.network.parameters():
            value.fill_(float("nan"))
    with pytest.raises(InputError, match=r"'rba' has .* NaN or infinite values"):
        anomaly.score(model, IMAGE, "rba")


def test_a_network_without_its_processor_is_told(networks):
    network, _ = tiny.mask2former()
    with pytest.raises(InputError, match=r"found Mask2FormerForUniversal.* alone; pass anomaly.HuggingFaceModel"):
        anomaly.load_model(network)
    with pytest.raises(InputError, match=r"of transformers, which returns .* pass anomaly.HuggingFaceModel"):
        anomaly.score(anomaly.TorchModel(network, device="cpu", mean=(0, 0, 0), std=(1, 1, 1)), IMAGE)
    with pytest.raises(InputError, match="processor: expected an image processor of transformers, found NoneType"):
        HuggingFaceModel(network, None)


def test_two_folders_are_not_one_model(networks, capsys):
    words = ("look", ".", "--out", "x.html", "--model", networks / "segformer", networks / "beit")
    assert status_of("anomaly", *words) == 2
    assert "evaluate one model at a time" in capsys.readouterr().err


def test_windows_after_resizing_are_told(networks):
    model = anomaly.load_model(networks / "segformer")
    with pytest.warns(UserWarning, match=r"windows of 32x32 are cut from the image after .* resized it"):
        anomaly.score(model, IMAGE, inference=anomaly.Inference(window=(32, 32)))


def test_look_refuses_nan(networks, folders, capsys):
    network, processor = tiny.segformer()
    with torch.no_grad():
        for value in network.parameters():
            value.fill_(float("nan"))
    network.save_pretrained("broken")
    processor.save_pretrained("broken")
    assert status_of("anomaly", "look", "images", "--model", "broken", "--out", "look.html") == 2
    assert "NaN or infinite values" in capsys.readouterr().err


def test_one_model_at_a_time(networks):
    model = anomaly.load_model(networks / "segformer")
    with pytest.raises(InputError, match="evaluate one model at a time"):
        anomaly.load_model([model, model])


def test_fewer_digits_are_told(networks):
    low = anomaly.Inference(precision="bfloat16")
    with pytest.warns(UserWarning, match="the masks are bfloat16, so that many pixels have equal scores"):
        anomaly.score(anomaly.load_model(networks / "mask2former"), IMAGE, inference=low)
    network, processor = tiny.segformer()
    model = HuggingFaceModel(network.half(), processor, device="cpu")
    with pytest.warns(UserWarning, match="the logits are float16"):
        anomaly.score(model, IMAGE)


def test_another_network_is_no_segmentation_network():
    network = transformers.SegformerForImageClassification(
        transformers.SegformerConfig(
            depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 1, 2, 2]
        )
    )
    with pytest.raises(InputError, match="found SegformerForImageClassification; use one of"):
        HuggingFaceModel(network, None)
