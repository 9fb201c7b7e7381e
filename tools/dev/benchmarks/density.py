"""Log-density of 131,072 pixels under 19 classes x 5 components in 64 dimensions.

This package is compared with a plain broadcast, as in the published head, and with the bare matrix products
``x @ A + x^2 @ B``, which every implementation by matrix products contains.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.density.gaussian import diagonal_log_prob
from benchmarks._measure import best_seconds, peak_mb

PIXELS, GROUPS, DIM = 131_072, 19 * 5, 64


def broadcast_log_prob(features: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """The differences of all pixels and components, as an (N, G, D) array."""
    z = (features[:, None] - means) / stds
    return -0.5 * (z.square().sum(2) + DIM * math.log(2 * math.pi)) - stds.log().sum(1)


@torch.inference_mode()
def measure() -> dict[str, float | int | str]:
    """Seconds, memory and errors."""
    torch.manual_seed(0)
    features = F.normalize(torch.randn(PIXELS, DIM), dim=1)
    means = F.normalize(torch.randn(GROUPS, DIM), dim=1)
    stds = 0.1 + torch.rand(GROUPS, DIM)
    first, second, squares = torch.randn(DIM, GROUPS), torch.randn(DIM, GROUPS), features.square()

    def ours() -> Tensor:
        return diagonal_log_prob(features, means, stds)

    def product() -> Tensor:
        return torch.addmm(features @ first, squares, second)

    def baseline() -> Tensor:
        return broadcast_log_prob(features, means, stds)

    ours_s, product_s = best_seconds(ours, product, repeats=20)
    (baseline_s,) = best_seconds(baseline, repeats=2)
    exact = broadcast_log_prob(features[:4096].double(), means.double(), stds.double())
    one_array = PIXELS * GROUPS * 4 / 1e6
    ours_mb = peak_mb(ours)
    return {
        "pixels": PIXELS,
        "ours_s": ours_s,
        "baseline_s": baseline_s,
        "speedup": baseline_s / ours_s,
        "bare_product_s": product_s,
        "times_bare_product": ours_s / product_s,
        "peak_mb": ours_mb,
        "peak_in_result_arrays": ours_mb / one_array,
        "max_abs_error": (ours()[:4096].double() - exact).abs().max().item(),
        "threads": torch.get_num_threads(),
    }
