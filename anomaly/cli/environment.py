"""Environment variables that numpy and torch read on import; the commands import this module before them."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads of torch do not keep the cores busy


def zen_4(cpuinfo: str) -> bool:
    """Whether this is an AMD processor of family 25 with AVX-512.

    Args:
        cpuinfo: Text of ``/proc/cpuinfo``.
    """
    fields = dict(line.split(":", 1) for line in cpuinfo.partition("\n\n")[0].splitlines() if ":" in line)
    found = {name.strip(): value.split() for name, value in fields.items()}
    amd = found.get("vendor_id") == ["AuthenticAMD"] and found.get("cpu family") == ["25"]
    return amd and "avx512f" in found.get("flags", [])


# On these, numpy sorts six times faster with AVX2: they compress AVX-512 vectors in microcode (x86-simd-sort, issue 6).
_cpuinfo = Path("/proc/cpuinfo")
if _cpuinfo.is_file() and zen_4(_cpuinfo.read_text()):
    os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", "X86_V4 AVX512_ICL AVX512_SPR")
