"""A report of 60 frames of 1280x720 with three scores: its size, and the time until it is usable in a browser.

It uses the shipped network on synthetic scenes with camera noise. It needs chromium, chromedriver and selenium.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.report.html import write_page
from benchmarks._browser import open_page
from benchmarks._measure import machine

ROOT = Path(__file__).resolve().parents[3]
NETWORK = ("configs/demo/segformer-gmmseg_street_scenes.py", "checkpoints/street_scenes.pth")
FRAMES, SIZE, SCORES = 60, (720, 1280), ("gmm_nll", "energy", "entropy")
GRAIN = 6.0  # standard deviation, of 255
CRITERIA = {"frames_shown": ("at least", FRAMES), "megabytes": ("at most", 40), "open_s": ("at most", 3)}


def measure() -> dict[str, object]:
    """Size of the page in megabytes, seconds to write it, and median seconds of five to open it."""
    with tempfile.TemporaryDirectory() as folder:
        root, out, page = Path(folder, "street_scenes"), Path(folder, "out"), Path(folder, "report.html")
        write_street_scenes(root, train=0, val=0, open_world=FRAMES, size=SIZE)
        _grain(root)
        start_command = "from anomaly.cli.main import main; main()"
        command = [sys.executable, "-c", start_command, "evaluate", *NETWORK]
        command += ["--data", "street_scenes", "--data-root", folder]
        subprocess.run(
            [*command, "--scores", *SCORES, "--no-closed-set", "--heatmaps", "none", "--report", "--out", str(out)],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        start = time.perf_counter()
        write_page([out / "results.json"], page)
        write_s = time.perf_counter() - start
        shown, opened = open_page(page, repeats=5)
        return {
            **machine(),
            "frames_shown": shown,
            "megabytes": page.stat().st_size / 1e6,
            "write_s": write_s,
            "open_s": sorted(opened)[len(opened) // 2],
        }


def _grain(root: Path) -> None:
    """Add noise to every image: synthetic images are smoother than those of a camera, and compress better."""
    random = np.random.default_rng(0)
    for path in root.glob("open_world/frames/*.jpg"):
        image = np.asarray(Image.open(path))
        grainy = image + random.normal(0, GRAIN, image.shape)
        Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8)).save(path, quality=95)
