"""What a result says of its inputs does not depend on where they are."""

import subprocess
from pathlib import Path

import pytest

from tests.anomaly import set_trees, tiny_segmentor
from tests.commands import status_of

ROOT = Path(__file__).resolve().parents[1]


def test_config_has_one_checksum_wherever_the_data_are(tmp_path, monkeypatch):
    from anomaly.utils.file_records import config_record

    text = "data_root = '{}/camvid'\nloader = dict(type='X', data_root='{}/camvid')  # {}\n"
    found = set()
    for root in ("data", "../shared/data", "/a/very/long/path" * 5):
        monkeypatch.setenv("DATA_ROOT", root)
        found.add(config_record(tmp_path / "tiny.py", text.format(root, root, root))["sha256"])
    found.add(
        config_record(tmp_path / "tiny.py", text.format(root, root, "").replace("type='X', ", "type='X',\n "))["sha256"]
    )
    assert len(found) == 1
    assert config_record(tmp_path / "tiny.py", text.format("elsewhere", root, ""))["sha256"] not in found


def test_commit_of_the_checkout_is_recorded():
    from anomaly.results.provenance import provenance

    if not (ROOT / ".git").exists():
        pytest.skip("the tests do not run in a checkout")
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert provenance({})["git_commit"].rstrip("+") == head.strip()


@pytest.mark.slow
def test_stopped_run_goes_on_by_another_path_to_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", "data")
    tiny_segmentor.write_all(tmp_path, "\ntrain_root = '{{$DATA_ROOT:data}}/camvid'\n")
    labels = dict.fromkeys("ab", (0, 0, 2))
    set_trees.road_anomaly(tmp_path / "data/road_anomaly", labels)
    (tmp_path / "link").symlink_to("data")

    words = (
        "tiny.py",
        "tiny.pth",
        "--sets",
        "road_anomaly",
        "--no-closed-set",
        "--heatmaps",
        "none",
        "--scores",
        "msp",
    )
    for root in ("data", "link", str(tmp_path / "data")):
        arguments = [*words, "--save-scores", "maps", "--out", "out", "--data-root", root]
        status = status_of("anomaly evaluate", *arguments)
        assert status == 0
