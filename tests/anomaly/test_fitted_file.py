"""The file of what was fitted: it gives the same model again, refuses other networks, and runs no code."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import anomaly
from anomaly.errors import InputError
from anomaly.fitting.fit import fit_model
from anomaly.fitting.images import TrainingImages, images_of
from anomaly.models.feature_density import FeatureDensity
from anomaly.models.torch import TorchModel
from anomaly.scores.registry import get_scores
from anomaly.utils.state_file import read_state, write_state
from tests.anomaly.tiny_backbones import FILE, body, labels_of, pictures

FEW = {"components": 2, "pixels": 300}
KIND = "what was fitted to training images"
NEW = pictures(1, seed=9)[0]
BODY, OTHER = "net.py:Body", "net.py:Other"


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(3, 5, 4, stride=4)
        self.last = nn.Conv2d(5, 3, 1)

    def forward(self, inputs):
        features = self.layer(inputs)
        return {"logits": self.last(features), "features": features}


def network(seed=0, mean=0.5, classes=("a", "b", "c")):
    how = {"mean": (mean,) * 3, "std": (0.2,) * 3, "device": "cpu", "classes": classes}
    return TorchModel(Net(seed), gives=("logits", "features"), **how)


def images():
    return TrainingImages(pictures(), lambda image: (image, labels_of(image)), labelled=True, classes=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector of two densities, one of a network with scores, and the file of the backbones."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "net.py").write_text(FILE)
    densities = [
        FeatureDensity(backbone=body(0), sizes=(24, 32), covariance="low_rank", covariance_rank=3, rank=9, **FEW),
        FeatureDensity(backbone=str(folder / OTHER), stages=(0,), sizes=(40,), bank=20, neighbours=2, pixels=100),
    ]
    fit_model(None, images_of(pictures()), densities, outliers=images_of(pictures(1, seed=5)), device="cpu").save(
        folder / "detector.npz"
    )
    more = [FeatureDensity.of_network(**FEW), FeatureDensity(backbone=body(0), sizes=(24,), covariance="tied", **FEW)]
    fit_model(network(), images(), more, scores=get_scores(["knn:k=2", "typicality"])).save(folder / "network.npz")
    return folder


def predictions(model):
    found = model(model.prepare(NEW)[None])
    return {name: value for name, value in vars(found).items() if isinstance(value, torch.Tensor)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_file_gives_bitwise_the_same_detector(folder):
    densities = [
        FeatureDensity(backbone=body(0), sizes=(24, 32), covariance="low_rank", covariance_rank=3, rank=9, **FEW),
        FeatureDensity(backbone=body(1, stages=[0]), sizes=(40,), bank=20, neighbours=2, pixels=100),
    ]
    fitted = fit_model(None, images_of(pictures()), densities, outliers=images_of(pictures(1, seed=5)))
    loaded = anomaly.load_model(folder / "detector.npz", backbones=[body(0).network, str(folder / OTHER)], device="cpu")
    assert same(predictions(loaded), predictions(fitted))
    assert loaded.gives == fitted.gives
    assert loaded.fitted_images == fitted.fitted_images
    assert len(loaded.fitted_images) == 4
    assert loaded.record["fitted"].keys() == fitted.record["fitted"].keys()
    assert [one["weights"] for one in loaded.record["fitted"]["densities"]] == [
        one["weights"] for one in fitted.record["fitted"]["densities"]
    ]
    assert len(loaded.inputs["fitted"]["sha256"]) == 64
    loaded.save(folder / "again.npz")
    again = anomaly.load_model(folder / "again.npz", backbones=[body(0), str(folder / OTHER)], device="cpu")
    assert same(predictions(again), predictions(loaded))


def test_a_file_gives_a_network_its_densities_and_what_its_scores_learned(folder):
    more = [FeatureDensity.of_network(**FEW), FeatureDensity(backbone=body(0), sizes=(24,), covariance="tied", **FEW)]
    fitted = fit_model(network(), images(), more, scores=get_scores(["knn:k=2", "typicality"]))
    loaded = anomaly.load_model(network(), fitted=folder / "network.npz", backbones=[body(0)])
    assert same(predictions(loaded), predictions(fitted))
    for name in ("gmm_nll", "knn", "typicality", "energy"):
        np.testing.assert_array_equal(anomaly.score(loaded, NEW, name), anomaly.score(fitted, NEW, name))
    assert loaded.classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, r"expected the network it was fitted to \(Net\), found none; name the network as the model"),
        (network(seed=1), "expected the network it was fitted to, found one with other weights"),
        (network(mean=0.4), "expected the network it was fitted to, found one with other mean"),
        (network(classes=("a", "c", "b")), "expected the network it was fitted to, found one with other classes"),
    ],
)
def test_another_network_is_refused(folder, model, message):
    how = {"spec": folder / "network.npz"} if model is None else {"spec": model, "fitted": folder / "network.npz"}
    with pytest.raises(InputError, match=message):
        anomaly.load_model(**how, backbones=[body(0)])


def test_a_network_beside_a_detector_is_refused(folder):
    with pytest.raises(InputError, match="expected no network, since this is a detector of its own, found one too"):
        anomaly.load_model(network(), fitted=folder / "detector.npz", backbones=[body(0), body(1)])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([body(1), OTHER], "found one with other type, weights"),
        ([body(0), BODY], "found one with other type, weights"),
        ([body(0, mean=(0.5,) * 3), OTHER], "found one with other mean"),
        ([body(0), body(1)], "found one with other file, stages"),
        ([body(0, stages=[0]), OTHER], "found one with other stages"),
        ([body(0).network, body(0).network], "found one with other file, type, weights"),
        ([body(0)] * 3, "expected at most 2 backbones, one for each density that has one, found 3"),
        (
            [],
            "expected the backbone Body to be named, because its code is executed, found none; name it after the file",
        ),
        ([body(0)], r"expected all 2 backbones in this order: Body, .*net\.py:Other, found 1"),
    ],
)
def test_other_backbones_are_refused(folder, given, message):
    given = [str(folder / one) if isinstance(one, str) else one for one in given]
    with pytest.raises(InputError, match=message):
        anomaly.load_model(folder / "detector.npz", backbones=given)


def test_code_runs_only_if_it_is_named(folder, tmp_path):
    place, trace = tmp_path / "mine.py", tmp_path / "trace"
    place.write_text(f"open({str(trace)!r}, 'a').write('x')\n{FILE}")
    density = FeatureDensity(backbone=f"{place}:Body", sizes=(24,), **FEW)
    fitted = fit_model(None, images_of(pictures()), [density], device="cpu")
    fitted.save(tmp_path / "mine.npz")
    before = trace.read_text()
    with pytest.raises(InputError, match=r"expected the backbone .*mine\.py:Body to be named"):
        anomaly.load_model(tmp_path / "mine.npz")
    assert trace.read_text() == before
    assert same(
        predictions(anomaly.load_model(tmp_path / "mine.npz", backbones=[f"{place}:Body"])), predictions(fitted)
    )
    assert trace.read_text() == before + "x"
    place.write_text(place.read_text().replace("seed = 0", "seed = 0  # another file"))
    with pytest.raises(InputError, match="found one with other file"):
        anomaly.load_model(tmp_path / "mine.npz", backbones=[f"{place}:Body"])


def test_densities_of_the_same_backbone_share_it(tmp_path):
    (tmp_path / "net.py").write_text(FILE)
    places = [str(tmp_path / name) for name in (BODY, OTHER, BODY)]
    densities = [FeatureDensity(backbone=place, sizes=(24,), **FEW) for place in places]
    fit_model(None, images_of(pictures()), densities, device="cpu").save(tmp_path / "street.npz")
    loaded = anomaly.load_model(tmp_path / "street.npz", backbones=places, device="cpu")
    first, other, same_one = (member.backbone for member in loaded.members)
    assert first is same_one
    assert first is not other
    assert loaded.record["name"] == "street"


def test_backbones_without_a_file_that_has_some_are_refused():
    with pytest.raises(InputError, match="backbones: expected a detector or a fitted file that has some, found none"):
        anomaly.load_model(network(), backbones=[body(0)])


# ---- damage


def changed(source, target, header=lambda header: header, arrays=lambda arrays: arrays):
    """Write a file again with another header or other arrays."""
    with read_state(source, KIND) as (head, found):
        kept = list(found)
    head = json.loads(json.dumps(head))
    write_state(target, header(head) or head, arrays(kept), KIND)
    return target


def put(*path, value):
    def change(header):
        place = header
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "how",
    [
        {"arrays": lambda arrays: arrays[:-1]},
        {"arrays": lambda arrays: [*arrays, arrays[0]]},
        {"arrays": lambda arrays: [arrays[0] * np.nan, *arrays[1:]]},
        {"arrays": lambda arrays: [arrays[0].astype(np.float16), *arrays[1:]]},
        {"arrays": lambda arrays: [arrays[0][:-1], *arrays[1:]]},
        {"arrays": lambda arrays: arrays[::-1]},
        {"header": put("members", 0, "shape", value=[1, 7])},
        {"header": put("members", 0, "shape", value="ab")},
        {"header": put("members", 0, "settings", "rank", value=5)},
        {"header": put("members", 0, "settings", "rank", value=-1)},
        {"header": put("members", 0, "settings", "colour", value=1)},
        {"header": put("members", 0, "settings", value=None)},
        {"header": put("members", 0, "outliers", value=False)},
        {"header": put("members", 0, "tensors", value=[])},
        {"header": put("members", 0, "weight", value="heavy")},
        {"header": put("members", 0, "backbone", value={"spec": "efficientnet-lite0"})},
        {"header": put("members", 0, "backbone", "spec", value=3)},
        {"header": put("members", value=3)},
        {"header": put("network", value=7)},
        {"header": put("record", value=3)},
        {"header": put("images", value=None)},
        {"header": put("statistics", value={"scores": []})},
    ],
)
def test_damaged_files_are_refused(folder, tmp_path, how):
    path = changed(folder / "detector.npz", tmp_path / "bad.npz", **how)
    with pytest.raises(InputError, match=r"bad\.npz: expected the state of what was fitted to training images"):
        anomaly.load_model(path, backbones=[body(0), body(1, stages=[0])])


def test_files_that_are_something_else_are_refused(folder, tmp_path):
    whole = (folder / "detector.npz").read_bytes()
    write_state(tmp_path / "metrics.npz", {}, [])
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"a": 1}))
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    with zipfile.ZipFile(tmp_path / "objects.npz", "w") as file, file.open("header.npy", "w") as member:
        np.lib.format.write_array(member, np.array([{"a": 1}], object), allow_pickle=True)
    for path in sorted(tmp_path.glob("*.npz")):
        with pytest.raises(InputError, match=rf"{path.name}: expected the state of what was fitted"):
            anomaly.load_model(path)
    with pytest.raises(InputError, match="found no such file"):
        anomaly.load_model(tmp_path / "none.npz")


def test_the_name_of_the_file_ends_in_npz(folder, tmp_path):
    model = anomaly.load_model(folder / "detector.npz", backbones=[body(0), str(folder / OTHER)], device="cpu")
    with pytest.raises(InputError, match=r"model\.bin: expected a file name that ends in \.npz"):
        model.save(tmp_path / "model.bin")
    assert not list(tmp_path.iterdir())
