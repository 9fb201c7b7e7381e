"""ESPNetv2 of EdgeNets: what its adapter needs, and that the committed result comes out again."""

import os
from pathlib import Path

import pytest

import anomaly
from anomaly.errors import InputError
from anomaly.results.records import read_results
from anomaly.utils.file_records import file_record

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "results/espnetv2_cityscapes.json"
ADAPTER = "tools/dev/edgenets.py"


def test_result_is_of_this_very_adapter():
    recorded = read_results(RESULT).provenance["model"]
    assert recorded == {"path": ADAPTER, "sha256": file_record(ROOT / ADAPTER)["sha256"], "object": "model"}


def test_clone_that_is_missing_or_another_is_refused(monkeypatch, tmp_path):
    def refused(message):
        with pytest.raises(InputError, match=message):
            anomaly.load_model(f"{ROOT / ADAPTER}:model")

    monkeypatch.delenv("EDGENETS", raising=False)
    refused("EDGENETS: expected the folder of a clone of EdgeNets, found it unset; clone .* and set EDGENETS")
    monkeypatch.setenv("EDGENETS", str(tmp_path))
    refused(r"found no model/segmentation/espnetv2\.py and no .*\.pth; clone")
    for name in ("espnetv2.py", "model_zoo/espnetv2/espnetv2_s_2.0_city_1024x512.pth"):
        path = tmp_path / "model/segmentation" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("something else")
    refused("expected SHA-256 a72d5969.*, found .*; clone")


@pytest.mark.slow
@pytest.mark.timeout(900)  # thirty images of 1024 x 576, and the bootstrap
def test_committed_result_comes_out_again(data_root, monkeypatch):
    if not os.environ.get("EDGENETS"):
        pytest.skip("no clone of sacmehta/EdgeNets; set EDGENETS to its folder")
    if not (data_root / "road_anomaly").is_dir():
        pytest.skip(f"no road_anomaly in {data_root}")
    monkeypatch.chdir(ROOT)  # the record names the adapter by its path from here
    # A tenth of a point for the arithmetic of another processor; another way of resizing changes more.
    verification = anomaly.verify(RESULT, f"{ADAPTER}:model", root=data_root, tolerance=1e-3)
    assert verification, str(verification)
