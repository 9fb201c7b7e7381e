"""Estimate at scale: SegFormer MiT-B5 on ADE20K (150 classes x 8 components), 8 GPUs, 2 crops of 512 x 512 each.

State, messages, operations and bytes are counted in the real code; the seconds on GPUs are computed from them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks._costs import classifier_step, network_step
from benchmarks._measure import machine
from benchmarks._messages import count_messages
from benchmarks._pieces import BATCH, CLASSES, COMPONENTS, SIZE, learn, state_bytes

CONFIG = Path(__file__).resolve().parents[3] / "configs/softmax/segformer_mit-b5_8xb2-160k_ade20k-512x512.py"
SETS = {"Cityscapes": (19, 5), "ADE20K": (CLASSES, COMPONENTS), "COCO-Stuff10k": (171, 5)}
PROCESSES = 8
# Half of an A100's specification in float32 (19.5 TFLOP/s, 1,555 GB/s), and an estimate for a PCIe 4 slot.
GPU = {"flops": 9.75e12, "bandwidth": 0.78e12, "launch": 6e-6}
LINK = {"bandwidth": 10e9, "latency": 50e-6}
CRITERIA = {"estimated_ratio": ("at most", 1.3), "coco_stuff_file_gb": ("at most", 1.0)}


def exchanged(received: float, calls: int) -> dict[str, float]:
    """Bytes that each process receives in the collectives, and the seconds they take."""
    seconds = calls * LINK["latency"] + received / LINK["bandwidth"]
    return {"calls": calls, "received_bytes": received, "message_seconds": seconds}


def measure() -> dict[str, Any]:
    """Measured parts, and what follows from them at the assumed speeds."""
    with tempfile.TemporaryDirectory() as folder:
        state = {name: state_bytes(*shape, Path(folder)) for name, shape in SETS.items()}
        counted = count_messages(PROCESSES, Path(folder), learn)
    classifier, network = classifier_step(GPU), network_step(CONFIG, GPU)
    calls = sum(int(value) for name, value in counted.items() if name.endswith("_calls"))
    messages = exchanged(counted["received_bytes"], calls)
    gradients = exchanged(2 * (PROCESSES - 1) / PROCESSES * 4 * network["parameters"], 1)
    # the published code: embedding, label and assignment of every pixel; all differences kept for the backward pass
    pixels, dim = classifier["pixels"], 64
    published = exchanged((PROCESSES - 1) * pixels * 4 * (dim + 1 + COMPONENTS), 3)
    published["kept_bytes"] = pixels * CLASSES * COMPONENTS * dim * 4
    twin = network["seconds"] + gradients["message_seconds"]
    extra = classifier["seconds"] + messages["message_seconds"]
    return {
        **machine(),
        "processes": PROCESSES,
        "crops_per_process": BATCH,
        "crop": SIZE,
        "assumed_gpu": GPU,
        "assumed_link": LINK,
        "state": state,
        "classifier": classifier,
        "network": network,
        "messages": counted | messages,
        "published": published,
        "gradients": gradients,
        "estimated_twin_seconds": twin,
        "estimated_seconds": twin + extra,
        "estimated_ratio": 1 + extra / twin,
        "weights_file_bytes": 4 * network["parameters"],
        "resume_file_bytes": 12 * network["parameters"] + state["ADE20K"]["file_bytes"],  # AdamW: two more a weight
        "coco_stuff_file_gb": state["COCO-Stuff10k"]["file_bytes"] / 1e9,
    }
