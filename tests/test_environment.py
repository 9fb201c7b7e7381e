"""What the tools set before numpy and torch load."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CPU = "vendor_id\t: {}\ncpu family\t: {}\nmodel name\t: x: y\nflags\t\t: fpu {}\n\nvendor_id\t: second\n"


@pytest.mark.parametrize(
    ("vendor", "family", "flags", "expected"),
    [
        ("AuthenticAMD", 25, "avx2 avx512f", True),
        ("AuthenticAMD", 25, "avx2", False),  # Zen 3
        ("AuthenticAMD", 26, "avx2 avx512f", False),
        ("GenuineIntel", 25, "avx2 avx512f", False),
    ],
)
def test_zen_4(monkeypatch, vendor, family, flags, expected):
    from anomaly.cli.environment import zen_4

    assert zen_4(CPU.format(vendor, family, flags)) is expected
    assert not zen_4("processor\t: 0\nFeatures\t: asimd\n")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.parametrize(("tuned", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_memory_of_large_arrays_is_kept_for_the_next(tuned, kept):
    """Writing to a second array of 200 MB asks the system for pages again only if the first was given back."""
    code = """
import resource
import anomaly.cli
import numpy as np

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(25_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
print(pages())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    environment |= {"PYTHONPATH": str(ROOT), "NUMPY_MADVISE_HUGEPAGE": "0", **tuned}
    asked = int(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)
    assert (asked < 1000) == kept  # 200 MB are 48,828 pages


@pytest.mark.parametrize(
    "module", ["anomaly.cli.evaluate", "anomaly.cli.compare", "gmmseg.cli.train", "gmmseg.cli.test"]
)
def test_set_before_numpy_loads(module):
    code = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print("OMP_WAIT_POLICY" in os.environ)
            sys.meta_path.remove(self)
sys.meta_path.insert(0, Watch())
import {module}
import numpy
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "True\n", done.stderr
