"""Classes added to a trained network: what stays as it was to the last bit, the new density against scipy, and back."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from PIL import Image
from scipy import stats
from sklearn.mixture import GaussianMixture as SklearnMixture

from anomaly.datasets.images import read_image
from anomaly.errors import InputError
from anomaly.frames import image_hash
from anomaly.mmengine.closed_set import evaluate_closed_set, open_closed_set
from anomaly.models.mmseg import build_model, load_mmseg
from gmmseg.classifier import GMMClassifier
from gmmseg.cli.remove_class import main as remove_main
from gmmseg.datasets.added_classes import name_class, unname_class
from gmmseg.mixture import AddedMixture
from gmmseg.new_classes import add_class, classifier_of, fit_added_mixture, remove_class
from gmmseg.settings import MixtureSettings
from tests.anomaly import set_trees, tiny_segmentor
from tests.commands import status_of
from tests.gmmseg.networks import MIXTURE, samples, segformer
from tests.gmmseg.tiny_training import assert_same

CONFIG = (
    tiny_segmentor.CONFIG.replace("'EncoderDecoder'", "'gmmseg.GMMSegmentor'")
    .replace("type='SegformerHead'", f"type='gmmseg.SegformerGMMSegHead', mixture={ {**MIXTURE, 'num_components': 3} }")
    .replace("classes={classes!r}", "classes={classes!r}, palette=[[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3]]")
)
METAS = [{"ori_shape": (64, 96), "img_shape": (64, 96), "pad_shape": (64, 96)}] * 2


def randomise(network, seed=0):
    torch.manual_seed(seed)
    classifier = classifier_of(network)
    for name, value in classifier.state_dict().items():
        if "norm" in name:
            value.copy_(1 + 0.3 * torch.randn_like(value))
    classifier.mixture.stds.uniform_(0.15, 0.4)
    for i, mixture in enumerate(classifier.added):
        torch.manual_seed(100 + i)
        mixture.means.copy_(F.normalize(torch.randn_like(mixture.means), dim=1))
        mixture.stds.uniform_(0.15, 0.4)
        mixture.log_weights.copy_(torch.rand(len(mixture.log_weights)).log_softmax(0))
    return network.eval()


def with_added(network, added, **test_cfg):
    """The same network with added classes, whose mixtures are random."""
    mixture = {**MIXTURE, "added_classes": added}
    more = segformer(mixture, num_classes=network.num_classes + added, **test_cfg)
    randomise(more)
    missing, unexpected = more.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected
    assert {key.split(".")[2] for key in missing} == {"added"}
    return more


@pytest.mark.parametrize("test_cfg", [{}, {"mode": "slide", "crop_size": (32, 40), "stride": (20, 24)}], ids=str)
@torch.no_grad()
def test_the_other_classes_stay_as_they_are_to_the_last_bit(test_cfg):
    network = randomise(segformer(num_classes=5, **test_cfg))
    images = torch.randn(2, 3, 64, 96)
    before, found = network.describe(images), network.infer(images, copy.deepcopy(METAS))
    first = with_added(network, 1, **test_cfg).describe(images)
    for added in (1, 2):
        more = with_added(network, added, **test_cfg)
        after = more.describe(images)
        for name in ("logits", "class_log_likelihood", "component_log_prob"):
            assert after[name].shape[1] == 5 + added
            assert torch.equal(after[name][:, :5], before[name]), name
            assert torch.equal(after[name][:, :6], first[name]), name  # a second class changes nothing for the first
        assert torch.equal(after["component_peak"][:5], before["component_peak"])
        assert torch.equal(after["features"], before["features"])
        for values, others in zip(more.infer(images, copy.deepcopy(METAS)), found, strict=True):
            torch.testing.assert_close(values[:, :5], others, rtol=1e-6, atol=1e-5)  # resized with more channels
        assert more.predict(images)[0].class_log_likelihood.data.shape == (5 + added, 64, 96)


@torch.no_grad()
def test_density_and_logit_of_a_new_class_are_those_of_scipy():
    classifier = GMMClassifier(6, MixtureSettings(num_components=3, embed_dim=8, memory_size=8, added_classes=1))
    torch.manual_seed(1)
    for norm in (classifier.class_norm, classifier.embed_norm):
        norm.weight.copy_(1 + 0.3 * torch.randn_like(norm.weight))
        norm.bias.copy_(0.3 * torch.randn_like(norm.bias))
    mixture = classifier.added[0]
    mixture.means.copy_(F.normalize(torch.randn(3, 8), dim=1))
    mixture.stds.uniform_(0.2, 0.5)
    mixture.log_weights.copy_(torch.tensor([0.7, 0.3, 0.0]).log())  # the third component is absent
    found = classifier(torch.randn(1, 8, 5, 7))
    x = found.embeddings.double().numpy()
    means, deviations = mixture.means.double().numpy(), mixture.stds.double().numpy()
    parts = np.stack([stats.norm.logpdf(x, means[p], deviations[p]).sum(1) for p in range(2)], axis=1)
    parts += np.log([0.7, 0.3]) + np.log(3)
    likelihood = found.class_log_likelihood.movedim(1, -1).reshape(35, 6).double().numpy()
    np.testing.assert_allclose(found.log_prob[:, 5, :2], parts, atol=1e-4)
    assert (found.log_prob[:, 5, 2] == -torch.inf).all()
    np.testing.assert_allclose(likelihood[:, 5], parts.max(1), atol=1e-4)
    trained = likelihood[:, :5]
    weight, bias = classifier.class_norm.weight.double().numpy(), classifier.class_norm.bias.double().numpy()
    unit = (parts.max(1) - trained.mean(1)) / np.sqrt(trained.var(1) + 1e-5)
    logits = found.logits.movedim(1, -1).reshape(35, 6)
    np.testing.assert_allclose(logits[:, 5], unit * weight.mean() + bias.mean(), rtol=1e-4, atol=1e-4)
    peaks = [stats.norm.logpdf(0, 0, deviations[p]).sum() + np.log(3 * (0.7, 0.3)[p]) for p in range(2)]
    np.testing.assert_allclose(classifier.peak()[5, :2], peaks, rtol=1e-5)


def test_a_class_of_even_weights_counts_like_a_trained_one():
    settings = MixtureSettings(num_components=2, embed_dim=16, memory_size=8, added_classes=1)
    classifier = GMMClassifier(3, settings)
    classifier.mixture.stds.uniform_(0.2, 0.5)
    classifier.added[0].means.copy_(classifier.mixture.means[1])
    classifier.added[0].stds.copy_(classifier.mixture.stds[1])
    classifier.added[0].log_weights.fill_(-math.log(2))
    found = classifier(torch.randn(1, 16, 4, 4))
    torch.testing.assert_close(found.log_prob[:, 2], found.log_prob[:, 1])


def test_fit_has_the_floor_and_the_form_of_the_networks_mixtures():
    draw = np.random.default_rng(0)
    centres = draw.normal(size=16) * [[1], [-1]]  # far apart, and wide: the means are much shorter than 1
    x = np.concatenate([centres[k] + 0.8 * draw.normal(size=(n, 16)) for k, n in enumerate((300, 100))])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    settings = MixtureSettings(num_components=4, embed_dim=16, variance_floor=0.02)
    mixture = fit_added_mixture(torch.tensor(x).float(), settings, 2, torch.Generator().manual_seed(0))
    expected = SklearnMixture(2, covariance_type="diag", n_init=5, reg_covar=1e-9, random_state=0).fit(x)
    order = np.argsort(-expected.weights_)
    mine = torch.argsort(-mixture.log_weights)[:2]
    np.testing.assert_allclose(mixture.log_weights[mine].exp(), expected.weights_[order], atol=1e-3)
    direction = expected.means_ / np.linalg.norm(expected.means_, axis=1, keepdims=True)
    about = expected.covariances_ + (direction - expected.means_) ** 2 + 0.02
    np.testing.assert_allclose(mixture.means[mine], direction[order], atol=1e-3)
    np.testing.assert_allclose(mixture.stds[mine] ** 2, about[order], atol=1e-3)
    few = fit_added_mixture(torch.tensor(x[:60]).float(), settings, 4, torch.Generator().manual_seed(0))
    assert few.log_weights.tolist() == [0, -math.inf, -math.inf, -math.inf]
    with pytest.raises(InputError, match="at least 50 marked cells of the network's feature map, found 49"):
        fit_added_mixture(torch.tensor(x[:49]).float(), settings, 4, torch.Generator())


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="'added_classes' must be less than num_classes, 5, found 5"):
        segformer({**MIXTURE, "added_classes": 5})
    with pytest.raises(InputError, match="'added_classes' must be an integer of 0 or more, found -1"):
        MixtureSettings(added_classes=-1)
    with pytest.raises(InputError, match="expected a GMMSeg network, whose classes are mixtures, found EncoderDecoder"):
        classifier_of(segformer(None))
    network = segformer({**MIXTURE, "added_classes": 1})
    with pytest.raises(InputError, match="a network with added classes cannot be trained"):
        network.loss(torch.randn(2, 3, 64, 64), samples(2, 64, 64))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Config, checkpoint and closed set of a tiny network, and three images with masks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiny_segmentor, "CONFIG", CONFIG)
    config = tiny_segmentor.write_config(
        tmp_path / "net.py", tiny_segmentor.write_closed_set(tmp_path / "closed", frames=2)
    )
    network = randomise(build_model(Config.fromfile(config)))
    classes = {"classes": tiny_segmentor.CLASSES, "palette": [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3]]}
    meta = {"iter": 7, "dataset_meta": classes}
    torch.save({"state_dict": network.state_dict(), "meta": meta, "optimizer": {"lr": 1.0}}, tmp_path / "net.pth")
    for seed in range(3):
        mask = np.zeros((48, 64), np.uint8)
        mask[: 24 + 8 * seed] = 255
        set_trees.write(tmp_path / "images" / f"{seed}.png", set_trees.photo(seed, 48, 64))
        set_trees.write(tmp_path / "masks" / f"{seed}.png", mask)
    return tmp_path


def add(*words, config="net", name="dog", out="made"):
    options = ("--name", name, "--images", "images", "--masks", "masks", "--out", out)
    return status_of("gmmseg add-class", f"{config}.py", f"{config}.pth", *options, *words)


def known_miou(config, network):
    found = evaluate_closed_set(config, network, open_closed_set(config))
    return 100 * np.nanmean([found.class_iou[name] for name in tiny_segmentor.CLASSES])


def test_add_class_and_back(folder, capfd):
    assert add("--color", 9, 8, 7) == 0
    out = capfd.readouterr().out
    assert sorted(path.name for path in (folder / "made").iterdir()) == ["net_dog.pth", "net_dog.py"]
    before, after = load_mmseg("net.py", "net.pth", device="cpu"), load_mmseg("made/net_dog.py", "made/net_dog.pth")
    assert after.classes == (*tiny_segmentor.CLASSES, "dog")
    meta = after.checkpoint["meta"]
    assert meta["dataset_meta"]["palette"][-1] == [9, 8, 7]
    assert open_closed_set(after.config).metainfo["palette"] == [*([k] * 3 for k in range(4)), [9, 8, 7]]
    assert after.fitted_images == {image_hash(read_image(folder / f"images/{seed}.png")) for seed in range(3)}
    assert "optimizer" not in after.checkpoint
    image = read_image(folder / "images/0.png")
    old, new = (model(model.prepare(image)[None]) for model in (before, after))
    assert torch.equal(new.logits[:, :4], old.logits)
    assert torch.equal(new.class_log_likelihood[:, :4], old.class_log_likelihood)
    expected = [known_miou(model.config, model.network) for model in (before, after)]
    assert f"mIoU of the 4 known classes: {expected[0]:.2f} before, {expected[1]:.2f} after (2 validation" in out
    assert expected[0] != expected[1]  # the new class is predicted somewhere

    # A cell is marked if its centre is: 48 rows are resized to 40 and cut into cells of 4.
    rows = []
    for seed in range(3):
        found = before(before.prepare(read_image(folder / f"images/{seed}.png"))[None]).features[0]
        marked = [i for i in range(10) if (4 * i + 2) * 48 / 40 < 24 + 8 * seed]
        rows.append(found[:, marked, :13].flatten(1).T)
    record = meta["posthoc"]["added_classes"][0]
    assert record["cells"] == len(torch.cat(rows))
    assert record["components"] == min(3, record["cells"] // 50)

    assert (
        status_of("gmmseg remove-class", "made/net_dog.py", "made/net_dog.pth", "--name", "dog", "--out", "back") == 0
    )
    back = torch.load("back/net_dog_no-dog.pth", weights_only=True)
    original = torch.load("net.pth", weights_only=True)
    assert_same(back, {key: original[key] for key in ("state_dict", "meta")})
    assert list(back["state_dict"]) == list(original["state_dict"])
    assert Config.fromfile("back/net_dog_no-dog.py")._cfg_dict == Config.fromfile("net.py")._cfg_dict


def two_classes(config, checkpoint):
    """A network with two more classes, cat and dog."""
    settings = classifier_of(build_model(config)).settings
    states = []
    for seed, name in enumerate(("cat", "dog")):
        x = F.normalize(torch.randn(120, 16, generator=torch.Generator().manual_seed(seed)), dim=1)
        mixture = fit_added_mixture(x, settings, 2, torch.Generator().manual_seed(0))
        record = {"fitted_images": [f"{name} 1", "both"]}
        config, checkpoint = add_class(config, checkpoint, name, mixture, color=(seed, 5, 5), record=record)
        states.append((config, checkpoint))
    return states


def test_two_classes_are_removed_in_any_order(folder):
    config, checkpoint = Config.fromfile("net.py"), torch.load("net.pth", weights_only=True)
    original = {key: checkpoint[key] for key in ("state_dict", "meta")}
    with_cat, with_both = two_classes(config, checkpoint)
    build_model(with_both[0]).load_state_dict(with_both[1]["state_dict"])
    assert with_both[1]["meta"]["dataset_meta"]["classes"] == (*tiny_segmentor.CLASSES, "cat", "dog")
    assert with_both[1]["meta"]["posthoc"]["fitted_images"] == ["both", "cat 1", "dog 1"]

    found = remove_class(*with_both, "dog")
    assert_same(found[1], with_cat[1])
    assert found[0]._cfg_dict == with_cat[0]._cfg_dict

    only_dog = remove_class(*with_both, "cat")
    assert only_dog[1]["meta"]["posthoc"]["fitted_images"] == ["both", "dog 1"]
    assert only_dog[0].val_dataloader.dataset.metainfo.classes == [*tiny_segmentor.CLASSES, "dog"]
    assert only_dog[0].val_dataloader.dataset.metainfo.palette[-1] == [1, 5, 5]
    network = build_model(only_dog[0])
    network.load_state_dict(only_dog[1]["state_dict"])
    for name, value in classifier_of(network).added[0].state_dict().items():
        assert torch.equal(value, with_both[1]["state_dict"][f"decode_head.classifier.added.1.{name}"])

    for last, found in (("dog", only_dog), ("cat", remove_class(*with_both, "dog"))):
        restored = remove_class(*found, last)
        assert_same(restored[1], original)
        assert restored[0]._cfg_dict == config._cfg_dict
    with pytest.raises(InputError, match=r"a class that was added to this network \(cat, dog\), found 'car'"):
        remove_class(*with_both, "car")
    with pytest.raises(InputError, match="expected added_classes=2, as the checkpoint has cat, dog, found 0"):
        remove_class(config, with_both[1], "cat")


def test_a_published_checkpoint_and_wrapped_datasets(folder):
    """Lists under CLASSES and PALETTE, a palette that the config lacks, a dataset with classes of its own, wrappers."""
    own = {"type": "CityscapesDataset", "data_root": "x"}
    given = {**own, "type": "BaseSegDataset", "metainfo": {"classes": ["a", "b"]}}
    config = Config({"train_dataloader": {"dataset": {"type": "RepeatDataset", "times": 2, "dataset": own}}})
    config.val_dataloader = {"dataset": {"type": "ConcatDataset", "datasets": [given, own]}}
    changed = copy.deepcopy(config)
    name_class(changed, "dog", (1, 2, 3))
    inner = changed.train_dataloader.dataset.dataset
    assert inner.of == {"type": "CityscapesDataset"}
    assert (inner.metainfo.classes[-2:], inner.metainfo.palette[-1]) == (["bicycle", "dog"], [1, 2, 3])
    assert changed.val_dataloader.dataset.datasets[0].metainfo == {"classes": ["a", "b", "dog"]}
    unname_class(changed, 19)
    assert changed.train_dataloader == config.train_dataloader
    config.val_dataloader.dataset = ConfigDict(type="BaseSegDataset")
    with pytest.raises(InputError, match="expected a dataset with class names, found BaseSegDataset without any"):
        name_class(config, "dog", (1, 2, 3))

    config, checkpoint = Config.fromfile("net.py"), torch.load("net.pth", weights_only=True)
    checkpoint["meta"] = {"CLASSES": list("abcd"), "PALETTE": [[k] * 3 for k in range(4)], "note": [1, 2]}
    mixture = AddedMixture(3, 16)
    found = add_class(config, checkpoint, "dog", mixture, color=(9, 9, 9), record={"fitted_images": []})
    assert (found[1]["meta"]["CLASSES"], found[1]["meta"]["PALETTE"][-1]) == ([*"abcd", "dog"], [9, 9, 9])
    assert_same(remove_class(*found, "dog")[1]["meta"], checkpoint["meta"])


def test_a_head_of_a_cascade_gets_the_mixture(folder):
    config, checkpoint = Config.fromfile("net.py"), torch.load("net.pth", weights_only=True)
    config.model.decode_head = [{"type": "FCNHead", "num_classes": 4}, config.model.decode_head]
    found = add_class(config, checkpoint, "dog", AddedMixture(3, 16), color=(9, 9, 9), record={"fitted_images": []})
    assert set(found[1]["state_dict"]) - set(checkpoint["state_dict"]) == {
        f"decode_head.1.classifier.added.0.{key}" for key in ("means", "stds", "log_weights")
    }
    assert [head.num_classes for head in found[0].model.decode_head] == [4, 5]
    assert set(remove_class(*found, "dog")[1]["state_dict"]) == set(checkpoint["state_dict"])


def test_the_usual_colour_is_far_from_those_of_the_other_classes(folder):
    assert add("--no-closed-set") == 0
    meta = torch.load("made/net_dog.pth", weights_only=True)["meta"]
    assert meta["dataset_meta"]["palette"][-1] == [255, 255, 255]  # the others are nearly black


def test_marked_images_are_not_evaluated(folder, capfd):
    assert add("--no-closed-set") == 0
    assert "mIoU" not in capfd.readouterr().out
    label = np.zeros((48, 64), np.uint8)
    label[:9] = 1
    for seed in range(3):
        set_trees.write(folder / "labels" / f"{seed}.png", label)
    network = ("made/net_dog.py", "made/net_dog.pth")
    options = ("--folder", "images", "labels", "--label-values", "0=known", "1=anomaly", "--no-closed-set")
    assert status_of("anomaly evaluate", *network, *options, "--out", "results") == 2
    assert "the model's densities or scores were fitted on" in capfd.readouterr().err
    for seed in range(3):
        set_trees.write(folder / "images" / f"{seed}.png", set_trees.photo(7 + seed, 48, 64))
    assert status_of("anomaly evaluate", *network, *options, "--out", "results") == 0


def test_without_validation_data_it_says_so(folder, capfd):
    (folder / "closed").rename(folder / "elsewhere")
    assert add() == 0
    assert "note: the mIoU of the known classes was not measured: closed set of" in capfd.readouterr().err
    assert (folder / "made/net_dog.pth").is_file()


def write_mask(folder, mask):
    Image.fromarray(np.asarray(mask, np.uint8)).save(folder / "masks/1.png")


@pytest.mark.parametrize(
    ("spoil", "words", "message"),
    [
        (None, {"name": "Car"}, "expected a new class, found 'Car', class 2 of the network"),
        (None, {"name": " "}, "expected the name of a class, found ' '"),
        (None, {"more": ("--components", 4)}, "expected 1 to 3, the network's own number, found 4"),
        (None, {"more": ("--color", 1, 2, 256)}, "expected three values from 0 to 255"),
        (lambda f: write_mask(f, np.ones((24, 64))), {}, "expected the size of images/1.png, 64x48, found 64x24"),
        (lambda f: write_mask(f, np.zeros((48, 64))), {}, "masks/1.png: expected marked pixels, found only 0"),
        (
            lambda f: write_mask(f, np.eye(48, 64) * 12 + 1),
            {},
            "expected 0 and one other value, that of the object, fo",
        ),
        (lambda f: (f / "masks/1.png").unlink(), {}, "expected a label map for every image of images, found none for"),
        (lambda f: [path.unlink() for path in (f / "images").iterdir()], {}, "images: expected files that end in .jpg"),
    ],
    ids=["known", "empty", "components", "color", "size", "unmarked", "label map", "no mask", "no image"],
)
def test_bad_input_is_one_sentence(folder, capfd, spoil, words, message):
    if spoil is not None:
        spoil(folder)
    words = dict(words)
    assert add(*words.pop("more", ()), **words) == 2
    assert message in capfd.readouterr().err
    assert not (folder / "made").exists()


def test_too_few_cells(folder, capfd):
    for path in (folder / "masks").iterdir():
        mask = np.zeros((48, 64), np.uint8)
        mask[:10, :10] = 1
        Image.fromarray(mask).save(path)
    assert add() == 2
    assert "expected at least 50 marked cells" in capfd.readouterr().err


def test_publishing_keeps_the_record(folder):
    assert add("--no-closed-set") == 0
    assert status_of("gmmseg publish", "made/net_dog.py", "made/net_dog.pth", "small.pth") == 0
    remove_main(["made/net_dog.py", "small.pth", "--name", "dog", "--out", "back"])
    assert load_mmseg("back/net_dog_no-dog.py", "back/net_dog_no-dog.pth").classes == tiny_segmentor.CLASSES
