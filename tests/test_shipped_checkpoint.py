"""The network that is shipped: small, safe, as good as its model card says; and the tool that makes such files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from anomaly.datasets.street_scenes import CLASSES, render_scene
from anomaly.errors import InputError
from anomaly.evaluation.score_maps import ScorePipeline, predicted_classes
from anomaly.frames import ANOMALY, KNOWN
from anomaly.metrics.pixel import PixelMetrics
from anomaly.models.checkpoints import check_classes, load_checkpoint_file, load_weights
from anomaly.report.table import results_markdown
from anomaly.results.records import read_results
from anomaly.scores import get_scores
from tests.commands import status_of

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/demo/segformer-gmmseg_street_scenes.py"
CHECKPOINT = ROOT / "checkpoints/street_scenes.pth"
RESULTS = ROOT / "results/street_scenes.json"
MEMORY = "decode_head.classifier.em.memory."


@pytest.fixture(scope="module")
def model():
    from anomaly.models.mmseg import build_model

    model = build_model(Config.fromfile(CONFIG))
    load_weights(model, load_checkpoint_file(CHECKPOINT)["state_dict"], CHECKPOINT)
    return model


def test_small_safe_and_whole(model):
    assert CHECKPOINT.stat().st_size < 5_000_000
    checkpoint = torch.load(CHECKPOINT, weights_only=True)  # torch's own list of what is safe, none of ours
    assert checkpoint.keys() == {"state_dict", "meta"}
    check_classes(checkpoint, CLASSES, CHECKPOINT)
    assert checkpoint["meta"]["config"]["path"] == CONFIG.relative_to(ROOT).as_posix()
    own = model.state_dict()
    assert checkpoint["state_dict"].keys() == {key for key in own if not key.startswith(MEMORY)}
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert b"/home" not in CHECKPOINT.read_bytes()


@pytest.mark.slow
def test_finds_what_is_unknown_on_scenes_it_never_saw(model):
    from anomaly.models.mmseg import MMSegModel
    from anomaly.models.views import predict_image

    detector = MMSegModel(Config.fromfile(CONFIG), model, "cpu")
    pipeline = ScorePipeline(get_scores(["gmm_nll", "msp"]))
    metrics, right, known = {name: PixelMetrics(name) for name in pipeline.names}, 0, 0
    for seed in range(8_000_000, 8_000_006):
        scene = render_scene(seed, anomalies=3)
        prediction = predict_image(detector, scene.image)
        label = np.where(scene.anomaly, ANOMALY, KNOWN).astype(np.uint8)
        for name, score in pipeline.score(prediction, label.shape).items():
            metrics[name].update(str(seed), score, label)
        right += int((predicted_classes(prediction, label.shape) == scene.label)[~scene.anomaly].sum())
        known += int((~scene.anomaly).sum())
    figures = {name: metric.compute() for name, metric in metrics.items()}
    pixels = figures["gmm_nll"]
    chance = pixels.anomaly_pixels / (pixels.anomaly_pixels + pixels.known_pixels)
    assert pixels["auroc"] > 0.85
    assert pixels["ap"] > 5 * chance
    assert pixels["ap"] > figures["msp"]["ap"]
    assert right / known > 0.85


def test_model_card_shows_the_committed_results():
    card, result = " ".join((ROOT / "checkpoints/README.md").read_text().split()), read_results(RESULTS)
    assert " ".join(results_markdown([result]).split()) in card
    by_class = ", ".join(
        f"{name.replace('_', ' ')} {100 * iou:.1f}" for name, iou in result.closed_set.class_iou.items()
    )
    assert f"IoU by class: {by_class}. Pixel accuracy {100 * result.closed_set.aacc:.1f}." in card


def test_results_are_of_this_very_file():
    from anomaly.utils.file_records import file_record

    recorded = read_results(RESULTS).provenance["checkpoint"]
    assert recorded["path"] == CHECKPOINT.relative_to(ROOT).as_posix()
    assert recorded["sha256"] == file_record(CHECKPOINT)["sha256"]


@pytest.fixture
def call(monkeypatch):
    """Run the tool in this process; give its exit status."""

    def run(*arguments):

        status = status_of("gmmseg publish", *map(str, arguments))
        return status

    return run


def test_tool_keeps_weights_and_classes_alone(call, model, tmp_path):
    trained = {
        "state_dict": model.state_dict(),
        "meta": {"iter": 7, "dataset_meta": {"classes": CLASSES, "seen": 3}, "cfg": "secret"},
        "optimizer": {"state": torch.zeros(10)},
        "message_hub": {},
    }
    torch.save(trained, tmp_path / "iter_7.pth")
    assert call(CONFIG, tmp_path / "iter_7.pth", tmp_path / "new" / "small.pth") == 0
    shipped = torch.load(tmp_path / "new" / "small.pth", weights_only=True)
    assert shipped.keys() == {"state_dict", "meta"}
    assert shipped["meta"]["dataset_meta"] == {"classes": list(CLASSES)}
    assert shipped["meta"]["steps"] == 7
    assert "cfg" not in shipped["meta"]
    expected = {key: value for key, value in model.state_dict().items() if not key.startswith(MEMORY)}
    assert shipped["state_dict"].keys() == expected.keys()
    assert all(torch.equal(shipped["state_dict"][key], value) for key, value in expected.items())
    assert not list((tmp_path / "new").glob("*.part"))
    model.decode_head.classifier.em.memory.pushed.add_(5)  # what the file lacks stays as the network has it
    load_weights(model, shipped["state_dict"], "shipped")
    assert model.decode_head.classifier.em.memory.pushed.eq(5).all()
    model.decode_head.classifier.em.memory.pushed.zero_()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda trained: trained.pop("meta"), "does not name its classes and steps"),
        (lambda trained: trained["state_dict"].popitem(), "belongs to another network than the config"),
        (lambda trained: trained["state_dict"].update(more=torch.zeros(1)), "left over more"),
    ],
)
def test_tool_refuses_what_it_cannot_vouch_for(call, model, tmp_path, capsys, change, words):
    trained = {"state_dict": dict(model.state_dict()), "meta": {"iter": 7, "dataset_meta": {"classes": CLASSES}}}
    trained["state_dict"] = {k: v for k, v in trained["state_dict"].items() if not k.startswith(MEMORY)}
    change(trained)
    torch.save(trained, tmp_path / "iter_7.pth")
    assert call(CONFIG, tmp_path / "iter_7.pth", tmp_path / "small.pth") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "small.pth").exists()
    assert call(CONFIG, tmp_path / "iter_7.pth", tmp_path / "iter_7.pth") == 2
    assert "would be lost" in capsys.readouterr().err


def test_shipped_file_is_refused_where_it_does_not_fit(model):
    other = dict(load_checkpoint_file(CHECKPOINT)["state_dict"])
    other["decode_head.classifier.mixture.means"] = other["decode_head.classifier.mixture.means"][:, :3]
    with pytest.raises(InputError, match="another network"):
        load_weights(model, other, CHECKPOINT)
