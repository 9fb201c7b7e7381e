"""docs/glossary.md and the report explain every score and column, with the texts of the code."""

import re
from pathlib import Path

import numpy as np
import pytest

import anomaly
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.metrics.definitions import PIXEL_METRICS
from anomaly.metrics.functional.components import TRACKS
from anomaly.report.glossary import TERMS, explain_columns, explain_scores
from anomaly.report.table import FURTHER, HEADLINE
from anomaly.scores.registry import COMBINATIONS, SCORES
from tests.commands import page_tool_status

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "glossary.md").read_text()
EVERY = {**SCORES, **COMBINATIONS}


@pytest.fixture
def tool(monkeypatch):
    return lambda path: page_tool_status(monkeypatch, "glossary_page.py", "--file", path)


def test_page_is_up_to_date(tool, tmp_path):
    (tmp_path / "page.md").write_text(re.sub(r"(glossary_page.py -->\n).*?(<!-- end)", r"\1\2", PAGE, flags=re.S))
    assert tool(tmp_path / "page.md") == 0
    assert (tmp_path / "page.md").read_text() == PAGE


def test_page_without_marks_is_refused(tool, tmp_path):
    (tmp_path / "page.md").write_text("# Glossary\n")
    assert tool(tmp_path / "page.md") == 2


@pytest.mark.parametrize("name", EVERY)
def test_page_explains_every_score(name):
    section = PAGE.partition(f"### {name}\n")[2].partition("\n#")[0]
    score = EVERY[name]
    assert score.description.endswith(".")
    assert all(text in section for text in (score.description, f"`{score.formula}`", score.source, *score.needs))
    assert f"Learns from training images: {'yes' if score.fit or name in COMBINATIONS else 'no'}" in section


def test_every_column_of_a_table_has_a_meaning():
    pixels = [
        one.title.format(tpr="95", fpr="95")
        for one in PIXEL_METRICS
        if HEADLINE.fullmatch(one.name.format(tpr="95", fpr=""))
    ]
    titles = [*pixels, *(column.title for column in FURTHER), "closed-set mIoU"]
    assert len(explain_columns(titles)) == len(titles) == len(TERMS)
    assert "90 %" in explain_columns(["FPR90 ↓"])["FPR90"]
    assert explain_columns(["nothing that is known"]) == {}


@pytest.mark.parametrize(
    ("names", "explained"),
    [
        (["energy:temperature=2", "energy+smooth:sigma=2", "energy"], ["energy"]),
        (["rank_average:of=gmm_nll+energy"], ["rank_average", "gmm_nll", "energy"]),
        (["MyNet <b>"], ["MyNet <b>"]),
    ],
)
def test_scores_are_explained_once_and_with_their_parts(names, explained):
    assert [score.name for score in explain_scores(names)] == explained


def test_a_model_own_score_is_not_explained_by_its_name():
    (score,) = explain_scores(["entropy"], given=True)
    assert score.description != SCORES["entropy"].description


def entropy(image):
    """Another score than the one of this name."""
    return image[..., 0].astype(np.float32)


def test_report_explains_its_scores_and_columns_and_no_others(tmp_path):
    torch = pytest.importorskip("torch")
    write_street_scenes(tmp_path / "street_scenes", train=0, val=0, open_world=3, size=(64, 80))
    data = anomaly.load_dataset("street_scenes", root=tmp_path)
    model = anomaly.TorchModel(lambda images: torch.cat([images, -images], dim=1))
    metrics = anomaly.MetricConfig(track=TRACKS["anomaly_track"])
    anomaly.evaluate(model, data, ["energy:temperature=2", "msp"], metrics=metrics).report(tmp_path / "net.html")
    anomaly.evaluate(entropy, data).report(tmp_path / "function.html")
    net, function = (
        (tmp_path / name).read_text().partition('<section id="glossary">')[2].partition("</section>")[0]
        for name in ("net.html", "function.html")
    )
    assert {name for name in EVERY if f"<dt>{name}</dt>" in net} == {"energy", "msp"}
    assert all(SCORES[name].description in net for name in ("energy", "msp"))
    assert {title for title in TERMS if f"<dt>{title}</dt>" in net} == {"AUROC", "AP", "F1*", "sIoU", "PPV"}
    assert "<dt>FPR95</dt>" in net
    assert "<dt>entropy</dt>" in function
    assert SCORES["entropy"].description not in function
    assert 'href="#glossary"' in (tmp_path / "net.html").read_text()
