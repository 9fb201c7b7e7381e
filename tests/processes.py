"""How the processes start and end that a test needs beside its own."""

import multiprocessing
import os
import sys

import torch.distributed as dist
import torch.multiprocessing as mp

# What most of them import, once for all tests of a session. It starts no thread, so that its copies are sound.
multiprocessing.set_forkserver_preload(["torch.distributed", "mmseg.apis", "mmseg.datasets", "mmseg.models"])


def start(function, *args, count=1):
    """Call ``function(rank, *args)`` in new processes, and wait for them; what one of them raises is raised here.

    They are copies of a process that has imported the libraries and nothing of the tests.
    """
    mp.start_processes(_call, (dict(os.environ), function, *args), nprocs=count, start_method="forkserver")


def _call(rank, environment, function, *args):
    os.environ.clear()
    os.environ.update(environment)
    function(rank, *args)


def leave():
    """End this process of a gloo group: see ``anomaly.cli.process`` for why."""
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
