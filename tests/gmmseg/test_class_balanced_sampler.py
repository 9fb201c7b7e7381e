"""The class-balanced sampler: its index against labels read by numpy, its stream against the rule's probabilities."""

import os
from itertools import islice

import numpy as np
import pytest
import torch
from mmseg.datasets import BaseSegDataset
from PIL import Image
from scipy.stats import chisquare

from anomaly.errors import InputError
from gmmseg.training import ClassBalancedSampler, class_index
from tests.processes import leave, start

NAMES = ("road", "sky", "car", "rider", "wolf")
LOAD = ({"type": "mmseg.LoadAnnotations"},)


class ToyDataset(BaseSegDataset):
    METAINFO = dict(classes=NAMES, palette=[[i] * 3 for i in range(len(NAMES))])  # noqa: RUF012, C408


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user cache"))
    return tmp_path / "user cache" / "gmmseg"


@pytest.fixture
def labels(tmp_path):
    """Twelve label maps: road in all, sky in every second, a car in three, a rider in one, a wolf in none."""
    maps = np.zeros((12, 6, 8), np.uint8)
    maps[::2, :3] = 1
    maps[[1, 4, 9], 4:, 2:5] = 2
    maps[7, 5, 7] = 3
    maps[:, 0, 0] = 255
    for folder in ("img", "ann"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i, label in enumerate(maps):
        Image.fromarray(label).save(tmp_path / f"data/ann/{i:02}.png")
        Image.fromarray(label).save(tmp_path / f"data/img/{i:02}.jpg")
    return maps


@pytest.fixture
def reads(monkeypatch):
    """Which label maps were decoded."""
    paths, transform = [], class_index.LoadAnnotations.transform

    def record(self, results):
        paths.append(results["seg_map_path"])
        return transform(self, results)

    monkeypatch.setattr(class_index.LoadAnnotations, "transform", record)
    return paths


def _dataset(tmp_path, **options):
    prefix = {"img_path": "img", "seg_map_path": "ann"}
    options = {"pipeline": LOAD, **options}
    return ToyDataset(data_root=str(tmp_path / "data"), data_prefix=prefix, **options)


def _present(maps, num_classes):
    return np.array([[(label == c).any() for c in range(num_classes)] for label in maps])


def _chances(present):
    """Of every image, by the rule: a class of those that occur, then an image that has it."""
    chances = np.zeros(len(present))
    occurring = [c for c in range(present.shape[1]) if present[:, c].any()]
    for c in occurring:
        for image in np.flatnonzero(present[:, c]):
            chances[image] += 1 / len(occurring) / present[:, c].sum()
    return chances


def _fits(drawn, chances):
    return chisquare(np.bincount(drawn, minlength=len(chances)), chances * len(drawn)).pvalue > 1e-3


def test_stream_follows_the_rule(tmp_path, labels):
    drawn = list(islice(ClassBalancedSampler(_dataset(tmp_path), seed=3), 20_000))
    chances = _chances(_present(labels, len(NAMES)))
    assert _fits(drawn, chances)
    assert not _fits(drawn, np.full(12, 1 / 12))  # 20,000 draws would show it
    first, second = np.array(drawn[:-1]), np.array(drawn[1:])
    assert _fits(second[first == 7], chances)  # a draw does not depend on the last


@pytest.mark.slow
def test_index_follows_the_data_sets_rules(tmp_path, labels):
    assert (class_index.class_index(_dataset(tmp_path)) == _present(labels, 5)).all()
    fewer = {"classes": ("car", "road")}
    mapped = np.select([labels == 2, labels == 0], [0, 1], 255)
    assert (class_index.class_index(_dataset(tmp_path, metainfo=fewer)) == _present(mapped, 2)).all()
    reduced = np.where((labels == 0) | (labels == 255), 255, labels.astype(int) - 1)
    zero = _dataset(tmp_path, reduce_zero_label=True)
    assert (class_index.class_index(zero) == _present(reduced, 5)).all()
    ignoring = np.where(labels == 1, 255, labels)
    assert (class_index.class_index(_dataset(tmp_path, ignore_index=1)) == _present(ignoring, 5)).all()
    assert (class_index.class_index(_dataset(tmp_path, indices=4)) == _present(labels[:4], 5)).all()
    assert (class_index.class_index(_dataset(tmp_path, pipeline=[])) == _present(labels, 5)).all()


def test_real_images(data_root, tmp_path):
    """On CamVid every class is seen about equally often where the plain stream hardly sees some."""
    from gmmseg.datasets import CamVidDataset

    (tmp_path / "annotations").mkdir()
    paths = sorted((data_root / "camvid/annotations/val").glob("*.png"))
    for path in paths:
        (tmp_path / "annotations" / path.name).write_bytes(path.read_bytes())
    prefix = {"img_path": str(data_root / "camvid/images/val"), "seg_map_path": str(tmp_path / "annotations")}
    sampler = ClassBalancedSampler(CamVidDataset(data_prefix=prefix), seed=0)
    maps = np.stack([np.array(Image.open(path)) for path in paths])
    assert _fits(list(islice(sampler, 20_000)), _chances(_present(maps, 11)))


@pytest.mark.slow
def test_index_is_kept_and_made_anew(tmp_path, labels, reads):
    def index(**options):
        reads.clear()
        return class_index.class_index(_dataset(tmp_path, **options)), len(reads)

    kept = tmp_path / "data/.ann.class_index.npz"
    assert index()[1] == 12
    assert kept.is_file()
    assert index()[1] == 0
    labels[3, 2, 2] = 4
    path = tmp_path / "data/ann/03.png"
    Image.fromarray(labels[3]).save(path)
    found, read = index()
    assert (read, found[3, 4]) == (12, True)
    os.utime(path, (1, 1))
    assert [index()[1], index()[1]] == [12, 0]
    assert [index(ignore_index=2)[1], index(indices=5)[1], index()[1]] == [12, 5, 12]
    (tmp_path / "data").rename(tmp_path / "moved")
    (tmp_path / "moved").rename(tmp_path / "data")
    assert index()[1] == 0
    assert [p.name for p in kept.parent.iterdir() if p.name.startswith(".")] == [kept.name]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", b"\x80\x04K\x01.", None])
def test_damaged_index_is_made_anew(tmp_path, labels, reads, damage):
    class_index.class_index(_dataset(tmp_path))
    kept = tmp_path / "data/.ann.class_index.npz"
    whole = kept.read_bytes()
    middle = len(whole) // 2
    kept.write_bytes(whole[:middle] + bytes(8) + whole[middle + 8 :] if damage is None else damage)
    reads.clear()
    assert (class_index.class_index(_dataset(tmp_path)) == _present(labels, 5)).all()
    assert len(reads) == 12
    assert kept.read_bytes() == whole


@pytest.mark.slow
def test_index_goes_to_the_users_cache_where_the_data_cannot_be_written(tmp_path, labels, reads, cache):
    (tmp_path / "data/.ann.class_index.npz").mkdir()  # os.replace fails on it, as on a read-only disk
    class_index.class_index(_dataset(tmp_path))
    assert len(list(cache.iterdir())) == 1
    assert not list((tmp_path / "data").glob(".*tmp*"))
    reads.clear()
    assert (class_index.class_index(_dataset(tmp_path)) == _present(labels, 5)).all()
    assert not reads


def test_seed_and_skip(tmp_path, labels):
    dataset = _dataset(tmp_path)
    stream = list(islice(ClassBalancedSampler(dataset, seed=5), 3000))
    assert stream == list(islice(ClassBalancedSampler(dataset, seed=5), 3000))
    assert stream != list(islice(ClassBalancedSampler(dataset, seed=6), 3000))
    resumed = ClassBalancedSampler(dataset, seed=5)
    resumed.skip(1500)
    assert list(islice(resumed, 1500)) == stream[1500:]


def _process(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    read = class_index.LoadAnnotations.transform
    calls = []
    class_index.LoadAnnotations.transform = lambda self, info: calls.append(info) or read(self, info)
    sampler = ClassBalancedSampler(_dataset(folder), seed=5)
    sampler.skip(10)
    drawn = list(islice(sampler, 50))
    sampler = ClassBalancedSampler(_dataset(folder))  # all agree on a seed
    torch.save([len(calls), drawn, sampler.seed], folder / f"{rank}.pth")
    for path in (folder / "data/ann").iterdir():
        path.write_bytes(b"no image")
    try:
        ClassBalancedSampler(_dataset(folder))
    except InputError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    leave()


@pytest.mark.slow
def test_two_processes_share_the_stream_and_the_reading(tmp_path, labels):
    stream = list(islice(ClassBalancedSampler(_dataset(tmp_path), seed=5), 120))
    (tmp_path / "data/.ann.class_index.npz").unlink()
    start(_process, tmp_path, count=2)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert (first[0], second[0]) == (12, 0)
    assert (first[1], second[1]) == (stream[20::2], stream[21::2])
    assert first[2] == second[2]
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == [(tmp_path / "0.txt").read_text()] * 2


def test_missing_class_is_named(tmp_path, labels, monkeypatch):
    said = []
    monkeypatch.setattr("gmmseg.training.class_balanced_sampler.print_log", lambda text, **_: said.append(text))
    ClassBalancedSampler(_dataset(tmp_path), seed=0)
    assert said == ["ClassBalancedSampler: no image contains wolf; left out of the stream"]


@pytest.mark.slow
def test_bad_data(tmp_path, labels):
    with pytest.raises(InputError, match="needs class names and a label map for every image"):
        ClassBalancedSampler(BaseSegDataset(data_root=str(tmp_path / "data"), data_prefix={"img_path": "img"}))
    path = tmp_path / "data/ann/03.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"03\.png cannot be read"):
        ClassBalancedSampler(_dataset(tmp_path))
    path.unlink()
    with pytest.raises(InputError, match=r"03\.png cannot be read: No such file"):
        ClassBalancedSampler(_dataset(tmp_path))
    for i in range(12):
        Image.fromarray(np.full((6, 8), 255, np.uint8)).save(tmp_path / f"data/ann/{i:02}.png")
    with pytest.raises(InputError, match="expected pixels of the 5 classes, found none in 12 label maps"):
        ClassBalancedSampler(_dataset(tmp_path))
