"""``anomaly.cli.process``: how a process of many ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import atexit, sys
import torch.distributed as dist
from anomaly.cli.process import end

class Late:
    def __del__(self, write=print):
        write("interpreter's end")

late = Late()
atexit.register(print, "handlers ran")
if sys.argv[1] == "many":
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
print("work is done")
end(int(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("status", [0, 2, 130])
@pytest.mark.parametrize(("kind", "last"), [("one", ["interpreter's end"]), ("many", [])])
def test_a_process_of_many_keeps_its_output_and_status_and_skips_the_interpreters_end(kind, last, status):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, str(status)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.splitlines() == ["work is done", "handlers ran", *last]
