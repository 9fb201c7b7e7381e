"""Settings of the process that numpy, torch and the C library read; the commands import this module before them."""

from __future__ import annotations

import ctypes
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


def keep_memory() -> bool:
    """Let glibc keep the memory of arrays up to 2 GiB for the next ones, unless the user tunes it.

    By default it returns every block above 32 MB to the system. A network on the CPU then spends half of its time on
    the pages of new blocks, which the kernel fills with zeros one by one.

    Returns:
        Whether it was set.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    mmap_threshold, trim_threshold = -3, -1
    return bool(mallopt(mmap_threshold, 2**31 - 1) and mallopt(trim_threshold, -1))


keep_memory()

# On these, numpy sorts six times faster with AVX2: they compress AVX-512 vectors in microcode (x86-simd-sort, issue 6).
_cpuinfo = Path("/proc/cpuinfo")
if _cpuinfo.is_file() and zen_4(_cpuinfo.read_text()):
    os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", "X86_V4 AVX512_ICL AVX512_SPR")
