import numpy as np
import pytest

from anomaly.cli.data import report_text
from anomaly.datasets.catalog import SETS, load_dataset
from anomaly.datasets.check import check_dataset
from anomaly.datasets.fingerprint import Fingerprint
from tests.anomaly import set_trees
from tests.anomaly.set_trees import label, plant, write


def test_everything_is_counted(tmp_path):
    plant(tmp_path, "camvid_ood", "published")
    report = check_dataset(load_dataset("camvid_ood", tmp_path, as_found=True))
    values, counts = np.unique(label(tuple(range(13))), return_counts=True)
    assert report.values == {int(v): 2 * int(n) for v, n in zip(values, counts, strict=True)}
    assert (report.frames, report.sizes) == (2, {(8, 6): 2})
    assert report.anomaly == 2 * int(counts[12])
    assert report.ignored == 2 * int(counts[11])
    assert report.known + report.anomaly + report.ignored == 2 * 48
    assert report.share == report.smallest_share == report.largest_share == counts[12] / 48
    assert report.faults == ()
    assert report.notes == (
        "2 frames where 233 are published",
        "2 images of 8x6 pixels where 480x360 is published",
    )


def test_all_faults_are_told(tmp_path):
    set_trees.camvid_ood(tmp_path / "camvid_ood")
    write(tmp_path / "camvid_ood/labels/cow.png", label((0, 200)))
    path = tmp_path / "camvid_ood/images/bear.jpg"
    path.write_bytes(path.read_bytes()[:100])
    report = check_dataset(load_dataset("camvid_ood", tmp_path))
    assert report.frames == 1
    assert len(report.faults) == 2
    assert any("cow.png" in fault and "[200]" in fault for fault in report.faults)
    assert any("bear.jpg" in fault and "cannot be decoded" in fault for fault in report.faults)
    text = report_text(load_dataset("camvid_ood", tmp_path), report, "CamVid-OOD")
    assert all(each in text for each in (*report.faults, *report.notes))
    assert "frames       1 (233 published)" in text


def test_the_odd_file_is_at_fault_and_not_the_others(tmp_path):
    set_trees.road_anomaly(tmp_path / "road_anomaly", {"a": (0, 1), "b": (0, 2), "c": (0, 2)})
    report = check_dataset(load_dataset("road_anomaly", tmp_path, as_found=True))
    (fault,) = report.faults
    assert "a.labels" in fault
    assert "found also [1]" in fault


def test_frames_without_anomaly_are_named(tmp_path):
    set_trees.road_anomaly(tmp_path / "street_scenes/open_world", {"a": (0,), "b": (0, 2)})
    report = check_dataset(load_dataset("street_scenes", tmp_path))
    assert report.without_anomaly == ("a",)
    assert report.faults == ()


def test_closed_sets_need_no_anomaly(tmp_path):
    plant(tmp_path, "camvid-test", "mmsegmentation")
    report = check_dataset(load_dataset("camvid-test", tmp_path, as_found=True), anomalies=False)
    assert report.without_anomaly == ()
    assert report.known > 0


@pytest.mark.parametrize(
    ("name", "frames", "values", "share"),
    [("road_anomaly", 30, [0, 2], 0.109), ("camvid_ood", 117, list(range(13)), 0.043), ("camvid-test", 233, None, 0.0)],
)
def test_real_sets(data_root, name, frames, values, share):
    report = check_dataset(load_dataset(name, data_root), anomalies=SETS[name].anomalies)
    assert report.frames == frames
    assert values is None or list(report.values) == values
    assert report.share == pytest.approx(share, abs=5e-4)
    assert report.faults == ()
    assert all("are published" in note for note in report.notes)


class TestFingerprint:
    def of(self, **labels):
        fingerprint = Fingerprint()
        for name, values in labels.items():
            fingerprint.add(name, values)
        return fingerprint.hexdigest()

    def test_order_and_repetition_do_not_matter(self):
        a, b = label((0, 1)), label((0, 0, 1))
        one = Fingerprint()
        for name, values in (("b", b), ("a", a), ("b", b)):
            one.add(name, values)
        assert one.hexdigest() == self.of(a=a, b=b)

    @pytest.mark.parametrize(
        "other",
        [
            {"a": label((0, 1)), "c": label((0, 0, 1))},
            {"a": label((0, 0, 1)), "b": label((0, 1))},
            {"a": label((0, 1))},
            {"a": label((0, 255)), "b": label((0, 0, 1))},
            {"a": label((0, 1), 8, 6), "b": label((0, 0, 1))},
            {"a": np.ascontiguousarray(label((0, 1)).T), "b": label((0, 0, 1))},
        ],
    )
    def test_names_labels_and_sizes_do(self, other):
        assert self.of(**other) != self.of(a=label((0, 1)), b=label((0, 0, 1)))

    def test_rewritten_values_of_one_meaning_do_not(self, tmp_path):
        digests = []
        for folder, values in (("one", (0, 2)), ("two", (0, 1))):
            plant(tmp_path / folder, "road_anomaly", "published", values)
            digests.append(check_dataset(load_dataset("road_anomaly", tmp_path / folder, as_found=True)).fingerprint)
        assert digests[0] == digests[1]
