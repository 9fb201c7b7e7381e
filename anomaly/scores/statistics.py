"""What scores learn from training images, in a file, with the fingerprint of what was seen."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.models.tiling import Inference
from anomaly.scores.combinations import fit_distribution, is_constant
from anomaly.scores.registry import SCORES, Score, serves
from anomaly.scores.sample import PixelSample
from anomaly.utils.state_file import read_state, write_state

KIND = "score statistics"
DISTRIBUTION = "distribution"
LOOKING = ("window", "scales", "resolution", "precision")
"""Settings of inference on which it depends how scores are distributed."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of scores.

    Args:
        fitted: By score, what its ``fit`` gives; empty for a score that needs none.
        distributions: By score, how it is distributed over training pixels; combinations are made of these.
        network: SHA-256 of the network's weights.
        classes: Names of its classes.
        images: :func:`image_hash` of every image seen.
        origin: What else is worth knowing: command, seed, counts; what JSON can hold.
    """

    fitted: dict[str, dict[str, Tensor]]
    distributions: dict[str, dict[str, Tensor]]
    network: str
    classes: tuple[str, ...]
    images: frozenset[str]
    origin: dict[str, Any]

    @classmethod
    def of(
        cls,
        sample: PixelSample,
        scores: Sequence[Score],
        *,
        network: str,
        classes: tuple[str, ...],
        images: Iterable[str],
        origin: dict[str, Any],
        all_of_them: bool = True,
    ) -> Statistics:
        """Fit scores to training pixels, and keep how each is distributed over them.

        Args:
            sample: The pixels.
            scores: Of combinations their parts are fitted; parameters do not count (:func:`bases`).
            network: As above.
            classes: As above.
            images: As above.
            origin: As above.
            all_of_them: Refuse where one cannot be fitted to these pixels; else it is left out, with a warning.

        Raises:
            InputError: The pixels tell nothing about what a score measures.
        """
        fitted: dict[str, dict[str, Tensor]] = {}
        distributions = {}
        for score in bases(scores):
            try:
                fitted[score.name] = {} if score.fit is None else score.fit(sample)
            except InputError as error:
                if all_of_them:
                    raise
                warnings.warn(f"not fitted: {error}", stacklevel=2)
                continue
            values = replace(score, statistics=fitted[score.name])(sample.prediction)[0, :, 0]
            distributions[score.name] = fit_distribution(values, sample.weights)
        return cls(fitted, distributions, network, classes, frozenset(images), origin)

    def save(self, path: Path) -> None:
        """Write to a ``.npz`` file, which appears whole or not at all.

        Raises:
            InputError: The name has another ending, or the file cannot be written.
        """
        tensors = [*_named(self.fitted, ""), *_named(self.distributions, f"{DISTRIBUTION}/")]
        header = {
            "network": self.network,
            "classes": list(self.classes),
            "images": sorted(self.images),
            "origin": self.origin,
            "scores": list(self.fitted),
            "tensors": [name for name, _ in tensors],
        }
        write_state(path, header, (tensor.numpy() for _, tensor in tensors), KIND)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what :meth:`save` wrote; plain arrays, nothing that runs code.

        Raises:
            InputError: The file is missing, damaged or something else.
        """
        with read_state(path, KIND) as (header, arrays):
            fitted: dict[str, dict[str, Tensor]] = {str(name): {} for name in header["scores"]}
            distributions: dict[str, dict[str, Tensor]] = {}
            for name in header["tensors"]:
                array = next(arrays)
                if array.dtype != np.float32 or not (np.isfinite(array) | np.isneginf(array)).all():
                    raise ValueError(f"{name} is not of finite float32")
                score, _, part = str(name).removeprefix(f"{DISTRIBUTION}/").rpartition("/")
                into = distributions if str(name).startswith(f"{DISTRIBUTION}/") else fitted
                into.setdefault(score, {})[part] = torch.from_numpy(array)
            return cls(
                fitted,
                distributions,
                str(header["network"]),
                tuple(map(str, header["classes"])),
                frozenset(map(str, header["images"] if "images" in header else header["photographs"])),
                dict(header["origin"]),
            )

    def attach(self, scores: Iterable[Score]) -> list[Score]:
        """Give scores their statistics; those that need none stay as they are.

        Raises:
            InputError: A score's statistics are not there, or do not go with its parameters, or a part of a combination
                is the same for all training pixels.
        """
        return [self._attach(score) for score in scores]

    def _attach(self, score: Score) -> Score:
        if not score.fitted:
            return score
        if score.parts:
            missing = [part.name for part in score.parts if part.name not in self.distributions]
            self._require(missing, score)
            found = [self.distributions[part.name] for part in score.parts]
            for part, each in zip(score.parts, found, strict=True):
                if is_constant(each["quantiles"]):
                    raise InputError(
                        f"score {score.name!r}: expected parts that differ over training pixels, found that "
                        f"{part.name} is the same, {each['quantiles'][0]:.6g}, of all training pixels; leave it out"
                    )
            wanted = ("quantiles",) if score.name.startswith("rank_average") else ("mean", "std")
            statistics = {name: torch.stack([each[name] for each in found]) for name in wanted}
            parts = tuple(self.attach(score.parts))
            return replace(score, parts=parts, statistics=statistics, learned_from=self.images)
        self._require([] if score.base in self.fitted else [score.base], score)
        if score.check is not None:
            score.check(**score.parameters, **self.fitted[score.base])
        return replace(score, statistics=self.fitted[score.base], learned_from=self.images)

    def _require(self, missing: list[str], score: Score) -> None:
        if missing:
            raise InputError(
                f"score {score.name!r} needs statistics of {missing[0]}, and the file has those of "
                f"{', '.join(self.fitted) or 'none'}; fit it too, by anomaly fit-scores"
            )

    def check(self, network: str, classes: tuple[str, ...], path: Path) -> None:
        """Refuse statistics of another network or class list.

        Raises:
            InputError: They are.
        """
        if self.classes != tuple(classes):
            raise InputError(
                f"{path}: expected statistics of a network with the classes {', '.join(classes)}, found "
                f"{', '.join(self.classes)}; fit the scores to this network, by anomaly fit-scores"
            )
        if self.network != network:
            raise InputError(
                f"{path}: expected statistics of this network (weights {network[:12]}), found those of another "
                f"({self.network[:12]}); fit the scores to this network, by anomaly fit-scores"
            )

    def differences(self, inference: Inference) -> str:
        """Name what was otherwise when the scores were fitted, ``window 64x64 (here the whole)``; empty for nothing."""
        fitted, here = self.origin.get("inference") or {}, inference.record()
        names = [name for name in LOOKING if name in fitted and fitted[name] != here[name]]
        return ", ".join(f"{name} {_told(fitted[name])} (here {_told(here[name])})" for name in names)


def weights_hash(state: dict[str, Tensor]) -> str:
    """Name a network by its tensors, wherever they are and whatever file they came from.

    What only training uses (``.em.``: GMMSeg's memory, which a file may leave out) does not count.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in state if ".em." not in name):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def fittable(gives: Iterable[str]) -> list[Score]:
    """All scores that a network with these outputs can be scored by."""
    gives = set(gives)
    return [score for score in SCORES.values() if serves(score, gives)]


def bases(scores: Iterable[Score]) -> list[Score]:
    """What statistics are of: the parts of combinations, and scores without their parameters; each once."""
    parts = [part for score in scores for part in score.parts or (score,)]
    return list({part.base: replace(part, name=part.base, parameters={}) for part in parts}.values())


def _named(tensors: dict[str, dict[str, Tensor]], prefix: str) -> list[tuple[str, Tensor]]:
    return [(f"{prefix}{score}/{name}", value) for score, found in tensors.items() for name, value in found.items()]


def _told(setting: Any) -> str:
    """Say a window, scales, or a word."""
    if not isinstance(setting, list):
        return "the whole" if setting is None else str(setting)
    return ("x" if isinstance(setting[0], int) else " ").join(map(str, setting))
