"""Backbones and images for densities: small, random and quick, with the densities of fitted models in float64."""

import numpy as np
import torch
from scipy.special import gammaln, logsumexp
from scipy.stats import norm
from torch import nn

from anomaly.models.backbone import Backbone

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
FILE = f"""
import torch
from torch import nn

mean, std = {MEAN}, {STD}


class Body(nn.Module):
    seed = 0

    def __init__(self):
        super().__init__()
        torch.manual_seed(self.seed)
        self.first, self.second = nn.Conv2d(3, 4, 4, stride=4), nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, images):
        fine = torch.tanh(self.first(images))
        return fine, torch.tanh(2 * self.second(fine))


class Other(Body):
    seed = 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.last = nn.Conv2d(3, 6, 4, stride=4), nn.Conv2d(6, 3, 1)

    def forward(self, inputs):
        features = torch.tanh(self.layer(inputs))
        return {{"logits": 3 * self.last(features), "features": features}}
"""
exec(FILE)  # so that a test in this process and a command that reads the file have the same networks


def body(seed=0, mean=MEAN, stages=None):
    """A backbone of two maps, of 4 and 6 channels and strides 4 and 8."""
    network: nn.Module = {0: Body, 1: Other}[seed]()  # noqa: F821
    return Backbone(network, mean=mean, std=STD, stages=stages, device="cpu")


def pictures(count=3, size=(45, 61), seed=0):
    """Images of smooth noise, each of another level."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = random.uniform(0, 200, (size[0] // 8 + 1, size[1] // 8 + 1, 3))
        fine = np.kron(coarse, np.ones((8, 8, 1)))[: size[0], : size[1]]
        found.append((fine + random.uniform(0, 50, fine.shape)).astype(np.uint8))
    return found


def labels_of(image, classes=3):
    """Classes by brightness; the uppermost rows have none. Shape ``(H, W)``, int64, -1 for none."""
    bright = np.digitize(image.mean(2), np.linspace(0, 250, classes + 1)[1:-1])
    bright[:4] = -1
    return torch.from_numpy(bright)


# ---- oracles in float64


def resized(maps, size):
    """Bilinear resize with pixel centres at half integers. Shape ``(..., h, w)``."""
    for axis, wanted in ((-2, size[0]), (-1, size[1])):
        given = maps.shape[axis]
        place = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
        low = np.floor(place).astype(int)
        high, weight = np.minimum(low + 1, given - 1), place - low
        weight = weight[:, None] if axis == -2 else weight
        with np.errstate(invalid="ignore"):
            maps = np.take(maps, low, axis) * (1 - weight) + np.take(maps, high, axis) * weight
    return np.where(np.isnan(maps), -np.inf, maps)


def features_of(backbone, rgb, sizes):
    """Features of images ``(B, 3, h, w)`` at short sides, all maps resized to the finest one and concatenated."""
    maps = []
    for size in sizes:
        height, width = rgb.shape[2:]
        factor = size / min(height, width)
        shape = (round(height * factor), round(width * factor))
        small = (
            rgb
            if rgb.shape[2:] == shape
            else torch.nn.functional.interpolate(rgb, shape, mode="bilinear", antialias=True)
        )
        mean, std = (255 * torch.tensor(of)[:, None, None] for of in (backbone.record["mean"], backbone.record["std"]))
        with torch.no_grad():
            every = backbone.network((small - mean) / std)
        maps += [every[stage].double().numpy() for stage in backbone.record["stages"]]
    finest = max((each.shape[2:] for each in maps), key=lambda shape: shape[0] * shape[1])
    return np.concatenate([resized(each, finest) for each in maps], 1)


def log_prob(densities, features, outliers=False):
    """Log-densities of components, by class. Shape ``(B, D, h, w)`` -> ``(B, C, P, h, w)``."""
    known = densities.outliers if outliers else densities.known
    state = {name: value.double().numpy() for name, value in known.state_dict().items()}
    centre, matrix = densities.whitening.centre.double().numpy(), densities.whitening.matrix.double().numpy()
    x = (np.moveaxis(features, 1, -1) - centre) @ matrix
    classes = len(state["sizes"] if "sizes" in state else state["means"])
    found = [[_one(known, state, c, p, x) for p in range(_count(state))] for c in range(classes)]
    return np.moveaxis(np.array(found), 2, 0)


def _count(state):
    return 1 if "sizes" in state else state["means"].shape[1]


def _one(known, state, c, p, x):
    if "sizes" not in state:
        with np.errstate(divide="ignore"):
            return state["log_weights"][c, p] + norm.logpdf(x, state["means"][c, p], state["stds"][c, p]).sum(-1)
    size, dim = int(state["sizes"][c]), x.shape[-1]
    if not size:
        return np.full(x.shape[:-1], -np.inf)
    k = min(known.k, size)
    away = np.linalg.norm(x[..., None, :] - state["features"][c, :size], axis=-1)
    nearest = np.maximum(np.sort(away, axis=-1)[..., k - 1], state["least"])
    volume = 0.5 * dim * np.log(np.pi) - gammaln(0.5 * dim + 1)
    return np.log(k / size) - volume - dim * np.log(nearest)


def of_classes(components):
    """Sum over components; a class without any has a finite value. Shape ``(B, C, P, h, w)`` -> ``(B, C, h, w)``."""
    return np.maximum(logsumexp(components, axis=2), -1e9)
