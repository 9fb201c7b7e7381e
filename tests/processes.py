"""How the processes end that a test starts."""

import os
import sys

import torch.distributed as dist


def leave():
    """End this process of a gloo group: see ``anomaly.cli.process`` for why."""
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
