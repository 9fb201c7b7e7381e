"""The table of methods against a first one."""

import pytest

from anomaly.errors import InputError
from anomaly.metrics import UndefinedMetricWarning
from anomaly.metrics.bootstrap import DegenerateBootstrapWarning, FrameTable, paired_bootstrap
from anomaly.report.paired import paired_markdown
from tests.anomaly.test_bootstrap import made


def tables(**noises):
    return {name: FrameTable.of(made(12, name=name, noise=noise)[0]) for name, noise in noises.items()}


def test_rows_are_differences_to_the_first_with_corrected_p_values():
    methods = tables(ours=0.0, near=5.0, far=60.0)
    header, _, first, near, far = (
        [cell.strip() for cell in line.strip("| \n").split("|")]
        for line in paired_markdown(methods, replicates=500).splitlines()
    )
    assert header == ["method", "AUROC", "p", "AP", "p", "FPR95", "p"]
    assert first[:2] == ["ours", f"{100 * methods['ours'].values['auroc']:.2f}"]
    found = {name: paired_bootstrap(methods[name], methods["ours"], replicates=500) for name in ("near", "far")}
    for name, row in (("near", near), ("far", far)):
        assert row[0] == name
        for column, figure in ((1, "auroc"), (3, "ap"), (5, "fpr95")):
            one = found[name][figure]
            ends = (100 * one.interval.low, 100 * one.interval.high)
            assert row[column] == f"{100 * one.difference:+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}]"
    p_values = [found[name]["auroc"].p_value for name in ("near", "far")]
    assert p_values[1] < p_values[0]
    corrected = [max(2 * p_values[1], p_values[0]), 2 * p_values[1]]  # Holm, of two
    assert [float(near[2]), float(far[2])] == pytest.approx([min(1, value) for value in corrected], rel=0.05)


def test_a_set_without_a_value_is_nan():
    with pytest.warns(UndefinedMetricWarning):
        methods = {name: FrameTable.of(made(3, share=0.0, name=name)[0]) for name in ("a", "b")}
    with pytest.warns(DegenerateBootstrapWarning):
        row = paired_markdown(methods, replicates=50).splitlines()[-1]
    assert row == "| b | +nan [+nan, +nan] | nan | +nan [+nan, +nan] | nan | +nan [+nan, +nan] | nan |"


def test_one_method_is_not_enough():
    with pytest.raises(InputError, match="at least two methods"):
        paired_markdown(tables(ours=0.0))
