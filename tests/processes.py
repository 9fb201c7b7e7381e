"""How the processes start and end that a test needs beside its own."""

import atexit
import multiprocessing
import os
import runpy
import sys
from pathlib import Path

import torch.distributed as dist
import torch.multiprocessing as mp

ROOT = Path(__file__).resolve().parents[1]
# What most of them import, once for all tests of a session. It starts no thread, so copies of its process are sound.
multiprocessing.set_forkserver_preload(["torch.distributed", "mmseg.apis", "mmseg.datasets", "mmseg.models"])


def start(function, *args, count=1):
    """Call ``function(rank, *args)`` in new processes, and wait for them; what one of them raises is raised here.

    They are copies of a process that has imported libraries, and nothing of the tests.
    """
    mp.start_processes(_call, (dict(os.environ), function, *args), nprocs=count, start_method="forkserver")


def _call(rank, environment, function, *args):
    os.environ.clear()
    os.environ.update(environment)
    function(rank, *args)


def start_tool(tool, words, folder, *, environment=None, out="out.txt", err="err.txt", before=None):
    """Run a tool of ``tools/`` in a new process in a folder, as its command does, without waiting for it.

    Args:
        tool: Name of its file.
        words: Its arguments.
        folder: Working directory.
        environment: Variables that differ from those here; ``PYTHONPATH`` has a single folder.
        out: File in the folder for its output.
        err: The same for errors.
        before: Function that is called in the process first.

    Returns:
        The process, with ``pid``, ``exitcode``, ``terminate`` and ``join``.
    """
    context = multiprocessing.get_context("forkserver")
    changed = {**os.environ, **(environment or {})}
    process = context.Process(target=_tool, args=(tool, [*map(str, words)], folder, changed, (out, err), before))
    process.start()
    return process


def _tool(tool, words, folder, environment, files, before):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, name in enumerate(files, start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if before is not None:
        before()
    path = str(ROOT / "tools" / tool)
    sys.argv, sys.path[:0] = [path, *words], [str(ROOT / "tools"), environment.get("PYTHONPATH", str(ROOT))]
    try:
        runpy.run_path(path, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing ends without


def leave():
    """End this process of a gloo group: see ``anomaly.cli.process`` for why."""
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
