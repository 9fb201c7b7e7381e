"""Images without labels on a page: what it says of thresholds against numpy, hostile names, bad input."""

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly.datasets.folder import find_images
from anomaly.errors import InputError
from anomaly.models.torch import TorchModel
from anomaly.report.look import write_look
from anomaly.scores import get_scores
from tests.commands import status_of

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("a", (40, 50)), (HOSTILE, (24, 60))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return [(path.stem, path) for path in sorted(folder.iterdir())]


def naive_msp(path):
    image = np.asarray(Image.open(path)).astype(np.float64) / 255
    logits = np.concatenate([image, -image], 2)
    return 1 - 1 / np.exp(logits - logits.max(2, keepdims=True)).sum(2)


def manifest_of(page):
    return json.loads(re.search(r'<script type="application/json" id="manifest">(.*?)</script>', page, re.S)[1])


def blob(page, number):
    return zlib.decompress(base64.b64decode(re.search(rf'id="b{number}">([^<]*)<', page)[1]))


def test_thresholds_call_the_share_of_pixels_that_the_page_says(images, tmp_path):
    detector = TorchModel(lambda images: torch.cat([images, -images], 1), classes=(*tuple("abcde"), HOSTILE))
    out, seen = tmp_path / "look.html", []
    write_look(
        detector,
        images,
        get_scores(["msp"]),
        out,
        name=HOSTILE,
        record={"name": HOSTILE, "type": "none"},
        provenance={"command": HOSTILE},
        on_frame=lambda: seen.append(1),
    )
    page = out.read_text()
    assert len(seen) == 2
    assert HOSTILE not in page
    assert "&lt;img src=x" in page
    data = manifest_of(page)
    assert data["labelled"] is False
    method = data["datasets"][0]["methods"][0]
    scores = np.concatenate([naive_msp(path).ravel() for _, path in images])
    levels, shares = np.array(method["levels"]), np.array(method["fpr"])
    assert 50 < len(levels) <= 255
    assert (np.diff(levels) > 0).all()
    naive = [(scores >= level - 1e-7).mean() for level in levels]
    np.testing.assert_allclose(shares, naive, atol=1.5 / len(scores))
    assert min(shares) < 1e-3
    for entry, (name, path) in zip(data["datasets"][0]["frames"], images, strict=True):
        score = naive_msp(path)
        assert entry["name"] == name
        assert tuple(entry["size"]) == tuple(entry["view"]) == score.shape
        stored = np.frombuffer(blob(page, entry["methods"][0]["points"]), np.uint8)
        rows, columns = entry["grid"]
        points = stored.reshape(4, -1).T.copy().view(np.float32).reshape(rows, columns)
        np.testing.assert_allclose(points, score, atol=1e-6)  # smaller than the grid: every pixel is on it
    assert "Precision" not in page.partition('id="b0"')[0]


def test_an_image_that_cannot_be_shown_is_told_before_the_work(images, tmp_path):
    folder, seen = images[0][1].parent, []
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder / "z.png")
    (folder / "zz.png").write_text("no picture")
    for name, words in (("z", "8-bit"), ("zz", "cannot be decoded")):
        with pytest.raises(InputError, match=rf"{name}\.png: expected.*{words}"):
            write_look(
                TorchModel(lambda images: seen.append(1)),
                [*images, (name, folder / f"{name}.png")],
                *(get_scores(["msp"]), tmp_path / "look.html"),
                name="mine",
                record={"name": "none"},
                provenance={},
            )
    assert not seen


def test_all_images_that_cannot_be_read_are_told_at_once(images, tmp_path):
    folder = images[0][1].parent
    for name in "wxyz":
        (folder / f"{name}.png").write_text("no picture")
    with pytest.raises(InputError, match=r"w\.png.*x\.png.*y\.png.*\(1 more cannot be read\)"):
        write_look(
            TorchModel(lambda images: images),
            [*images, *((name, folder / f"{name}.png") for name in "wxyz")],
            *(get_scores(["msp"]), tmp_path / "look.html"),
            name="mine",
            record={"name": "none"},
            provenance={},
        )


def test_pictures_of_other_formats_are_told(images):
    folder = images[0][1].parent
    (folder / "scan.TIFF").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 images such as scan\.TIFF are left out"):
        assert len(find_images(folder)) == len(images)


def call(monkeypatch, capfd, *arguments):
    status = status_of("anomaly look", *map(str, arguments))
    return status, capfd.readouterr()


def test_the_shipped_network_shows_a_folder(images, tmp_path, monkeypatch, capfd):
    out = tmp_path / "look.html"
    status, said = call(monkeypatch, capfd, images[0][1].parent, "--out", out)
    assert status == 0, said.err
    assert "shows 2 images" in said.out
    data = manifest_of(out.read_text())
    assert [method["label"] for method in data["datasets"][0]["methods"]] == ["gmm_nll", "msp"]
    assert data["datasets"][0]["runs"][0]["classes"][0] == "road"
    assert "trained only on synthetic street scenes" in out.read_text().partition('id="frames"')[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["look.html", "photos"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", "--out", "look.html"), "expected a folder"),
        (("photos", "--out", "look.pdf"), "--out: expected a file name that ends in .html"),
        (("photos", "--out", "none/look.html"), "in an existing folder"),
        (("photos", "--out", "page.html"), "--out: expected a file name that ends in .html"),
        (("photos/a.png", "--out", "look.html"), "expected a folder, found a file"),
        (("photos", "--out", "look.html", "--scores", "gmmnll"), "gmm_nll"),
        (("photos", "--out", "look.html", "--network", "none.py", "none.pth"), "none.py does not exist"),
    ],
)
def test_bad_input_is_one_sentence(images, tmp_path, monkeypatch, capfd, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.html").mkdir()
    status, said = call(monkeypatch, capfd, *arguments)
    assert status == 2
    assert words in said.err.splitlines()[-1]
    assert not list(tmp_path.glob("look*"))
