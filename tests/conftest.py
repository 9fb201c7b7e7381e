"""Where reference figures and real images are looked for; tests skip with a reason where there are none."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# One thread for each process of tests: networks here are tiny, and threads of two processes that wait for each other on
# two cores cost four times the work. Before anything loads numpy or torch.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Spare the tests half of the time of a tiny training, which mmengine spends on nothing that they test.

    It collects garbage with every dataset it builds: what is imported by now is left out. It formats the text of a
    config six times in a training: once is enough.
    """
    gc.collect()
    gc.freeze()
    if "mmengine.config" in sys.modules:
        from yapf.yapflib import yapf_api

        yapf_api.FormatCode = _once(yapf_api.FormatCode)


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called once for the same arguments, which have a ``repr``."""
    found: dict[str, Any] = {}

    def call(*args: Any, **options: Any) -> Any:
        key = repr((args, options))
        if key not in found:
            found[key] = function(*args, **options)
        return found[key]

    return call


def _first_folder(variable: str, *defaults: Path) -> Path | None:
    if variable in os.environ:
        named = Path(os.environ[variable])
        if not named.is_dir():
            raise pytest.UsageError(f"{variable} names {named}, which is not a folder; correct it or unset it")
        return named
    return next((folder for folder in defaults if folder.is_dir()), None)


@pytest.fixture(scope="session")
def golden():
    """Give the path of a reference file; skip where it is missing."""
    folders = [_first_folder("GMMSEG_GOLDEN")] if "GMMSEG_GOLDEN" in os.environ else []
    folders = folders or [ROOT / "tests" / "golden", ROOT.parent / "shared" / "golden"]

    def find(name: str) -> Path:
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        pytest.skip(f"no reference file {name}; set GMMSEG_GOLDEN to the folder that holds it")

    return find


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real data sets (camvid, camvid_ood, road_anomaly); skip where there is none."""
    folder = _first_folder("ANOMALY_DATA_ROOT", ROOT.parent / "shared" / "data")
    if folder is None:
        pytest.skip("no real images; set ANOMALY_DATA_ROOT to the folder that holds them")
    return folder
