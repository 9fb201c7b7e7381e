"""How the processes end that a test starts."""

import os
import sys

import torch.distributed as dist


def leave():
    """End this process of a gloo group: what ``anomaly.cli.process`` says of the interpreter's own end holds here too."""
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
