"""What integers mean, and places where no score maps can be."""

import numpy as np
import pytest

from anomaly.errors import InputError
from anomaly.results.score_formats.base import check_scale
from anomaly.results.score_store import ScoreWriter, open_scores


@pytest.mark.parametrize("scale", [(0, 0), (1, 0), (0, np.nan), (0, np.inf)])
def test_scale_that_is_none(scale):
    with pytest.raises(InputError, match="scale: expected two finite scores, the smaller one first, found"):
        check_scale(scale)


def test_scale_of_what_needs_none(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(InputError, match="expected integers, because a scale is given, found float32; omit the scale"):
        open_scores(tmp_path, scale=(0, 1)).read("predictions", "a")


def test_folder_where_a_file_is(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder that can be created, found: Not a directory"):
        ScoreWriter(tmp_path / "file" / "road", dataset="s", method="m")
