"""Training pixels of scores and of densities, against loops over images, windows and cells."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anomaly.errors import InputError
from anomaly.fitting.fit import fit_model
from anomaly.frames import image_hash
from anomaly.mmengine.training_images import training_images
from anomaly.models.backbone import Backbone
from anomaly.models.base import Prediction
from anomaly.models.feature_density import FeatureDensity
from anomaly.models.tiling import Inference
from anomaly.scores.registry import Score
from tests.anomaly import set_trees

C, STRIDE, PAD = 3, 4, 8
HEIGHT, WIDTH = 60, 96
"""Of images; the network sees the middle of every two by two pixels, and gives one of four by four of these."""


class PlaceModel:
    """Features: row, column and number of the image's pixel, and how far it is from the border of the view."""

    linear = (torch.rand(C, 4), torch.rand(C))
    gives, classes = frozenset({"logits", "features"}), ()

    def __init__(self, classes=C, fault=0.0):
        self._classes, self._fault = classes, fault

    def prepare(self, image):
        return torch.from_numpy(image[1::2, 1::2].copy()).permute(2, 0, 1).float()

    def __call__(self, inputs):
        height, width = inputs.shape[2:]
        padded = torch.nn.functional.pad(inputs, (0, -width % PAD, 0, -height % PAD))
        places = padded[:, :, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        border = torch.zeros_like(places[:, :1])
        for i in range(border.shape[2]):
            for j in range(border.shape[3]):
                y, x = STRIDE * i + 2.5, STRIDE * j + 2.5
                border[:, :, i, j] = min(y, x, height - y, width - x)
        logits = places.sum(1, keepdim=True).repeat(1, self._classes, 1, 1) + self._fault
        return Prediction(logits, features=torch.cat([places, border], 1), covers=tuple(padded.shape[2:]))


class Images:
    """Images whose colours tell row, column and number, with labels of noise."""

    def __init__(self, root, count=3):
        self.metainfo = {"classes": tuple("abc")}
        random = np.random.default_rng(0)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
        self.images = [np.stack([rows, columns, np.full_like(rows, n)], 2) for n in range(count)]
        self.labels = [random.choice(np.uint8([0, 1, 1, 1, 2, 255]), (HEIGHT, WIDTH)) for _ in range(count)]
        self.labels[0][self.labels[0] == 2] = 0  # the first has no pixel of the last class
        self.paths = [root / f"{n}.png" for n in range(count)]
        for path, image in zip(self.paths, self.images, strict=True):
            if not path.exists():
                set_trees.write(path, image)

    def __len__(self):
        return len(self.images)

    def get_data_info(self, index):
        return {"img_path": str(self.paths[index])}

    def __getitem__(self, index):
        label = torch.from_numpy(self.labels[index])[None]
        return {"data_samples": SimpleNamespace(gt_sem_seg=SimpleNamespace(data=label))}

    def cells(self, windows):
        """Label and largest distance from a window's border, by number, row and column of a cell's middle."""
        found = {}
        for n, labels in enumerate(self.labels):
            for top, bottom, left, right in windows:
                for i in range(0, bottom - top, STRIDE):
                    for j in range(0, right - left, STRIDE):
                        y, x = top + i + 2, left + j + 2
                        if y >= HEIGHT // 2 or labels[2 * y + 1, 2 * x + 1] == 255:
                            continue
                        away = min(y + 0.5 - top, bottom - y - 0.5, x + 0.5 - left, right - x - 0.5)
                        key = (n, 2 * y + 1, 2 * x + 1)
                        known = found.get(key, (0, 0.0))[1]
                        found[key] = (labels[2 * y + 1, 2 * x + 1], max(known, away))
        return found


@pytest.fixture
def images(tmp_path):
    return Images(tmp_path)


def sample(images, inference=Inference(), *, count=9, pixels=10**6, seed=0, model=None):  # noqa: B008
    """The pixels that a score is fitted to, and hashes of their images."""
    seen = []
    spy = Score("spy", lambda logits: logits[:, 0], ("logits",), "here", fit=lambda one: seen.append(one) or {})
    how = {"limit": count, "pixels": pixels, "seed": seed, "inference": inference}
    fitted = fit_model(model or PlaceModel(), training_images(images), (), scores=[spy], **how)
    return seen[0], fitted.fitted_images


WHOLE = [(0, HEIGHT // 2, 0, WIDTH // 2)]
LOOKS = {"whole": Inference(), "windows": Inference(window=(16, 16), stride=(8, 8))}


def test_every_pixel_has_the_label_of_its_middle(images):
    found, hashes = sample(images)
    expected = images.cells(WHOLE)
    rows = found.rows("features").numpy()
    assert {(int(n), int(y), int(x)): int(k) for (y, x, n, _), k in zip(rows, found.labels, strict=True)} == {
        place: label for place, (label, _) in expected.items()
    }
    assert len(rows) == len(expected)
    assert found.weights.tolist() == [1] * len(rows)
    assert hashes == set(map(image_hash, images.images))
    assert found.linear is PlaceModel.linear


def test_overlapping_windows_count_a_pixel_once_where_it_is_farthest_from_a_border(images):
    images.labels = [label[:48] for label in images.labels]  # windows whose cells lie on one grid
    images.images = [image[:48] for image in images.images]
    for path, image in zip(images.paths, images.images, strict=True):
        set_trees.write(path, image)
    expected = images.cells([(y, y + 16, x, x + 16) for y in (0, 8) for x in (0, 8, 16, 24, 32)])
    found, _ = sample(images, LOOKS["windows"])
    rows = found.rows("features").numpy()
    pairs = {(int(n), int(y), int(x)): (int(k), b) for (y, x, n, b), k in zip(rows, found.labels, strict=True)}
    assert pairs == expected
    assert len(rows) == len(expected)
    assert found.weights.tolist() == [1] * len(rows)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("pixels", [3, 9, 20, 60])
def test_pixels_are_a_limit_and_weights_what_they_stand_for(images, look, pixels):
    found, _ = sample(images, LOOKS[look], pixels=pixels)
    assert 3 <= len(found.labels) <= pixels
    number = found.rows("features")[:, 2].long()
    for n in range(3):
        own = number == n
        present = 2 if n == 0 else 3
        drawn = torch.bincount(found.labels[own], minlength=C)
        assert drawn.max() == pixels // 3 // min(present, pixels // 3)
        assert (drawn > 0).sum() == min(present, pixels // 3)
        if look == "whole" and pixels >= 9:
            for k in range(C):
                count = sum(label == k and m == n for (m, _, _), (label, _) in images.cells(WHOLE).items())
                assert found.weights[own & (found.labels == k)].sum() == pytest.approx(count)


def test_images_are_drawn_at_random(tmp_path):
    images = Images(tmp_path, count=5)
    names = [image_hash(image) for image in images.images]
    chosen = [sample(images, count=2, pixels=40, seed=seed)[1] for seed in range(12)]
    assert {name for pair in chosen for name in pair} == set(names)
    assert all(len(pair) == 2 for pair in chosen)
    first, again = (sample(images, count=2, pixels=40, seed=7)[0] for _ in range(2))
    assert torch.equal(first.prediction.features, again.prediction.features)
    assert len(sample(images, count=9)[1]) == 5


def test_mirror_images_and_other_sizes_take_no_part(images):
    plain, _ = sample(images, pixels=60)
    more, _ = sample(images, Inference(flip=True, scales=(2.0, 0.5)), pixels=60)
    assert torch.equal(plain.prediction.features, more.prediction.features)
    assert torch.equal(plain.weights, more.weights)


def test_what_does_not_fit_is_told(images):
    with pytest.raises(InputError, match="expected at least one pixel for each of the 3 images, found 2"):
        sample(images, pixels=2)
    with pytest.raises(InputError, match="expected training data with the 4 classes of the network, found 3"):
        sample(images, model=PlaceModel(classes=4))
    with pytest.raises(InputError, match="logits: expected finite values, found NaN or infinity"):
        sample(images, model=PlaceModel(fault=torch.nan))
    images.labels[1][0, 0] = 7
    with pytest.raises(InputError, match=r"label of .*1\.png: expected classes 0 to 2 .* found also \[7\]"):
        sample(images)


# densities


class Places(torch.nn.Module):
    """A backbone whose features are the pixels at the middles of cells."""

    def forward(self, rgb):
        return rgb[:, :, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]


def places(images, windows=None, **more):
    """The rows, columns and numbers that the bank of each class holds, each once, and how many the class had."""
    body = Backbone(Places(), mean=(0, 0, 0), std=(1 / 255,) * 3, device="cpu")
    side = HEIGHT if windows is None else windows[0]
    density = FeatureDensity(backbone=body, sizes=(side,), bank=10**4, whiten=False)
    inference = Inference(window=windows, stride=windows and (windows[0] // 2, windows[1] // 2))
    fitted = fit_model(None, training_images(images), [density], inference=inference, **more)
    bank = fitted.members[0].densities.known
    found = [sorted(map(tuple, bank.features[k, :size].long().tolist())) for k, size in enumerate(bank.sizes)]
    return found, fitted.fit_record["pixels"]


def test_densities_are_fitted_to_all_cells_with_the_label_of_their_middle(images):
    expected = [[] for _ in range(C)]
    for n, labels in enumerate(images.labels):
        for y in range(2, HEIGHT, STRIDE):
            for x in range(2, WIDTH, STRIDE):
                if labels[y, x] != 255:
                    expected[labels[y, x]].append((y, x, n))
    assert places(images) == ([sorted(each) for each in expected], list(map(len, expected)))


def test_densities_see_a_cell_in_every_window(images):
    images.labels = [label[:48] for label in images.labels]  # windows whose cells lie on one grid
    images.images = [image[:48] for image in images.images]
    for path, image in zip(images.paths, images.images, strict=True):
        set_trees.write(path, image)
    found = places(images, (48, 48))
    expected = [[] for _ in range(C)]
    for n, labels in enumerate(images.labels):
        for left in (0, 24, 48):
            for y in range(2, 48, STRIDE):
                for x in range(left + 2, left + 48, STRIDE):
                    if labels[y, x] != 255:
                        expected[labels[y, x]].append((y, x, n))
    assert found == ([sorted(set(each)) for each in expected], list(map(len, expected)))
