"""Class mixtures over the features of networks of Hugging Face and of modules."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import anomaly
from anomaly.errors import InputError
from gmmseg.posthoc import MixtureModel, fit_mixtures, load_mixtures
from gmmseg.posthoc.any_model import save_mixtures
from tests.anomaly import tiny_huggingface as tiny
from tests.commands import status_of
from tests.stored_maps import FOLDERS, write_dataset

IMAGE = np.random.default_rng(0).integers(0, 255, (50, 75, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    for name in ("segformer", "mask2former"):
        tiny.write_network(folder, name)
    return folder


def write_classes(folder, count=3, size=(40, 60)):
    """Images of four brightnesses and label maps of their classes, one for each quarter."""
    random = np.random.default_rng(0)
    for name in ("train_images", "train_labels"):
        (folder / name).mkdir()
    for number in range(count):
        label = np.zeros(size, np.uint8)
        label[:, size[1] // 2 :] += 1
        label[size[0] // 2 :] += 2
        image = random.integers(0, 60, (*size, 3)).astype(np.uint8) + 50 * label[..., None]
        label[:3] = 255
        Image.fromarray(image).save(folder / f"train_images/{number}.png")
        Image.fromarray(label).save(folder / f"train_labels/{number}.png")
    return ("--folder", folder / "train_images", folder / "train_labels")


def fitted(model, labels=None):
    labels = np.random.default_rng(1).integers(0, 4, IMAGE.shape[:2]) if labels is None else labels
    draw = torch.Generator().manual_seed(0)
    densities, seen = fit_mixtures(model, [0, 1], lambda _: (IMAGE, labels), components=2, generator=draw)
    return MixtureModel(model, densities), densities, seen


@pytest.mark.parametrize("name", ["segformer", "mask2former"])
def test_likelihoods_equal_scipy_on_the_features_of_the_network(networks, name):
    model = anomaly.load_model(networks / name)
    mixed, densities, seen = fitted(model)
    prediction, plain = mixed(mixed.prepare(IMAGE)[None]), model(model.prepare(IMAGE)[None])
    assert mixed.gives == model.gives | {"class_log_likelihood", "component_log_prob", "component_peak"}
    assert all(torch.equal(getattr(prediction, field), getattr(plain, field)) for field in model.gives)
    rows, columns = plain.features.shape[2:]
    inside = (rows * 64 // plain.covers[0], columns * 96 // plain.covers[1])  # padding has no class
    assert int(seen.sum()) == 2 * inside[0] * inside[1]
    means, stds, weights = (each.double().numpy() for each in (densities.means, densities.stds, densities.log_weights))
    for row, column in ((0, 0), (3, 5), (rows - 1, columns - 1)):
        x = plain.features[0, :, row, column].double().numpy()
        x = x / np.linalg.norm(x)
        for c in range(4):
            normals = [multivariate_normal(means[c, p], np.diag(stds[c, p] ** 2)) for p in range(2)]
            expected = logsumexp(
                [weight + normal.logpdf(x) for weight, normal in zip(weights[c], normals, strict=True)]
            )
            assert float(prediction.class_log_likelihood[0, c, row, column]) == pytest.approx(expected, rel=1e-5)


def test_fit_evaluate_and_refuse_what_was_fitted(networks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path)
    data = write_classes(tmp_path)
    assert status_of("gmmseg", "fit", "--model", networks / "mask2former", *data, "--out", "fitted") == 0
    spec = "fitted/mask2former_posthoc-gmm.py:model"
    assert f"--model {spec}" in capsys.readouterr().out
    scores = ("--scores", "gmm_nll", "rba", "marginal_nll")
    assert status_of("anomaly", "evaluate", "--model", spec, *FOLDERS, *scores, "--out", "out", "--report") == 0
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert record["model"]["mixtures"]["images"] == 3
    assert status_of("anomaly", "verify", "out", "--model", spec, "--folder", "images", "labels") == 0
    seen = ("--label-values", "0,2-3=known", "1=anomaly", "255=ignore")
    capsys.readouterr()
    assert status_of("anomaly", "evaluate", "--model", spec, *data, *seen, "--out", "no") == 2
    assert "fitted" in capsys.readouterr().err


def test_files_move_together_and_other_models_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_network(tmp_path / "a", "segformer")
    data = write_classes(tmp_path)
    assert status_of("gmmseg", "fit", "--model", "a/segformer", *data, "--out", "a/fitted") == 0
    (tmp_path / "a").rename(tmp_path / "b")
    spec, mixtures = "b/fitted/segformer_posthoc-gmm.py:model", tmp_path / "b/fitted/segformer_posthoc-gmm.pth"
    model = anomaly.load_model(spec)
    assert model(model.prepare(IMAGE)[None]).class_log_likelihood.shape[1] == 4
    other = anomaly.load_model("b/segformer")
    with torch.no_grad():
        next(other.network.parameters()).add_(1)
    with pytest.raises(InputError, match="found one with other weights; fit them again"):
        load_mixtures(mixtures, other)
    processor = tmp_path / "b/segformer/preprocessor_config.json"
    processor.write_text(processor.read_text().replace('"width": 96', '"width": 128'))
    with pytest.raises(InputError, match="found one with other preprocessing; fit them again"):
        anomaly.load_model(spec)
    (tmp_path / "b/fitted").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="nothing is there, so check the path"):
        anomaly.load_model("elsewhere/segformer_posthoc-gmm.py:model")


def test_saving_leaves_the_model_where_it_is(networks, tmp_path, monkeypatch):
    """A model on a GPU goes on predicting there: its tensors are copied to the CPU, and no module is moved."""
    model, densities, _ = fitted(anomaly.load_model(networks / "segformer"))
    copied = []

    def refuse(module, *args, **kwargs):
        raise AssertionError("a module was moved")

    monkeypatch.setattr(torch.nn.Module, "_apply", refuse)  # what .cpu(), .to() and .cuda() call
    monkeypatch.setattr(torch.Tensor, "cpu", lambda values: copied.append(values) or values.clone())
    save_mixtures(tmp_path / "a.pth", model)
    found = torch.load(tmp_path / "a.pth", weights_only=True)["state_dict"]
    assert found.keys() == densities.state_dict().keys()
    assert all(torch.equal(values, found[name]) for name, values in densities.state_dict().items())
    assert {each.data_ptr() for each in copied} >= {each.data_ptr() for each in densities.state_dict().values()}


def test_a_file_of_mixtures_names_no_code_and_may_be_damaged(networks, tmp_path):
    model, _, _ = fitted(anomaly.load_model(networks / "segformer"))
    save_mixtures(tmp_path / "a.pth", model)
    found = torch.load(tmp_path / "a.pth", weights_only=True)
    assert found.keys() == {"kind", "model", "record", "fitted_images", "state_dict"}
    again = load_mixtures(tmp_path / "a.pth", anomaly.load_model(networks / "segformer"))
    inputs = model.prepare(IMAGE)[None]
    assert torch.equal(again(inputs).class_log_likelihood, model(inputs).class_log_likelihood)
    for change in ({"state_dict": {}}, {"model": None}, {"fitted_images": 3}):
        torch.save({**found, **change}, tmp_path / "b.pth")
        with pytest.raises(InputError, match="expected whole mixtures, found a damaged file"):
            load_mixtures(tmp_path / "b.pth", model._model)
    with pytest.raises(InputError, match="found no file; move it along"):
        load_mixtures(tmp_path / "c.pth", model._model)


class Bare:
    """A model that records nothing."""

    gives, classes = frozenset({"logits", "features"}), ()

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = torch.nn.Conv2d(3, 4, 1)

    def prepare(self, image):
        return torch.from_numpy(image).permute(2, 0, 1) / 255

    def __call__(self, inputs):
        logits = self.net(inputs).detach()
        return anomaly.Prediction(logits=logits, features=logits)


def test_weights_are_compared_although_the_model_does_not_record_them(tmp_path):
    mixed, _, _ = fitted(Bare())
    save_mixtures(tmp_path / "a.pth", mixed)
    load_mixtures(tmp_path / "a.pth", Bare())
    other = Bare()
    with torch.no_grad():
        other.net.bias.add_(1)
    with pytest.raises(InputError, match="found one with other weights"):
        load_mixtures(tmp_path / "a.pth", other)


def test_pixels_without_a_class_are_left_out():
    labels = np.zeros(IMAGE.shape[:2], np.uint8)
    labels[:20], labels[40:] = 255, 3
    _, _, seen = fitted(Bare(), labels)
    assert seen.tolist() == [2 * 20 * 75, 0, 0, 2 * 10 * 75]


def test_models_of_python_files_are_found_from_the_mixtures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "import torch\nimport anomaly\n"
        "def network(images):\n    return {'logits': torch.cat([images, images], 1)[:, :4], 'features': images}\n"
        "model = anomaly.TorchModel(network, gives=('logits', 'features'))\n"
    )
    data = write_classes(tmp_path)
    assert status_of("gmmseg", "fit", "--model", "net.py:model", *data, "--out", "fitted") == 0
    (written,) = (tmp_path / "fitted").glob("*.py")
    assert "class_log_likelihood" in anomaly.load_model(f"{written}:model").gives


def test_labels_that_are_no_classes_are_told(networks):
    model = anomaly.load_model(networks / "segformer")
    with pytest.raises(InputError, match=r"expected the classes 0 to 3 of the network and 255 .* found also \[4\]"):
        fitted(model, np.full(IMAGE.shape[:2], 4))


def test_models_without_features_or_with_likelihoods_are_refused(networks):
    plain = anomaly.TorchModel(torch.nn.Conv2d(3, 2, 1), device="cpu", mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(InputError, match="a model that gives features and classes, found one that gives logits"):
        fitted(plain)
    mixed, _, _ = fitted(anomaly.load_model(networks / "segformer"))
    with pytest.raises(InputError, match="expected a model without likelihoods of its own"):
        fitted(mixed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected CONFIG and CHECKPOINT, or --model SPEC"),
        (("--model", "x"), "--model: expected --folder IMAGES LABELS too"),
        (("--model", "x", "--frozen"), "--frozen: expected --model, or CONFIG CHECKPOINT with its options"),
        (("a.py", "b.pth", "--allow-pickle"), "--allow-pickle has no effect without --model"),
    ],
)
def test_options_that_do_not_go_together_are_told(words, message, capsys):
    assert status_of("gmmseg", "fit", *words, "--out", "fitted") == 2
    assert message in capsys.readouterr().err
