"""Statistics of scores over training images, stored in a file together with the origin of the images."""

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
from anomaly.scores.registry import SCORES, Score, current_name, serves
from anomaly.scores.sample import PixelSample
from anomaly.utils.state_file import read_state, write_state

KIND = "score statistics"
DISTRIBUTION = "distribution"
LOOKING = ("window", "scales", "resolution", "precision")
"""Settings of inference that affect the distribution of scores."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of scores over training pixels.

    Args:
        fitted: Output of ``fit`` of each score, by its name; empty for a score that needs no statistics.
        distributions: Distribution of each score over training pixels, by its name, for combinations.
        network: SHA-256 of the network's weights.
        classes: Names of the network's classes.
        images: Hashes (:func:`anomaly.frames.image_hash`) of the training images.
        origin: Further information such as command, seed and counts, as values that JSON can hold.
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
        """Fit scores to training pixels, and store the distribution of each.

        Args:
            sample: The training pixels.
            scores: Scores to fit. Combinations are fitted by fitting their parts; parameters are ignored
                (see :func:`bases`).
            network: SHA-256 of the network's weights.
            classes: Names of the network's classes.
            images: Hashes of the training images.
            origin: Further information, as values that JSON can hold.
            all_of_them: Raise an error if a score cannot be fitted; otherwise it is left out with a warning.

        Raises:
            InputError: A score cannot be fitted, because the training pixels do not differ enough.
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
        """Write the statistics to a ``.npz`` file, whole or not at all.

        Args:
            path: The file; its name must end in ``.npz``.

        Raises:
            InputError: The name has another suffix, or the file cannot be written.
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
        """Read statistics that :meth:`save` wrote; no code from the file is run.

        Args:
            path: The file.

        Raises:
            InputError: The file is missing, damaged or of another kind.
        """
        with read_state(path, KIND) as (header, arrays):
            fitted: dict[str, dict[str, Tensor]] = {current_name(str(name)): {} for name in header["scores"]}
            distributions: dict[str, dict[str, Tensor]] = {}
            for name in header["tensors"]:
                array = next(arrays)
                if array.dtype != np.float32 or not (np.isfinite(array) | np.isneginf(array)).all():
                    raise ValueError(f"{name} does not hold finite float32 values")
                score, _, part = str(name).removeprefix(f"{DISTRIBUTION}/").rpartition("/")
                into = distributions if str(name).startswith(f"{DISTRIBUTION}/") else fitted
                into.setdefault(current_name(score), {})[part] = torch.from_numpy(array)
            return cls(
                fitted,
                distributions,
                str(header["network"]),
                tuple(map(str, header["classes"])),
                frozenset(map(str, header["images"] if "images" in header else header["photographs"])),
                dict(header["origin"]),
            )

    def attach(self, scores: Iterable[Score]) -> list[Score]:
        """Return scores with their statistics attached; scores that need none are unchanged.

        Raises:
            InputError: Statistics of a score are missing or do not fit its parameters, or a part of a combination is
                equal for all training pixels.
        """
        return [self._attach(score) for score in scores]

    def _attach(self, score: Score) -> Score:
        if not score.fitted:
            return score
        if score.parts:
            missing = [part.name for part in score.parts if part.name not in self.distributions]
            self._require(missing, score)
            distributions = [self.distributions[part.name] for part in score.parts]
            for part, each in zip(score.parts, distributions, strict=True):
                if is_constant(each["quantiles"]):
                    raise InputError(
                        f"score {score.name!r}: expected parts that differ over training pixels, found that "
                        f"{part.name} is {each['quantiles'][0]:.6g} for all training pixels; leave it out"
                    )
            names = ("quantiles",) if score.name.startswith("rank_average") else ("mean", "std")
            statistics = {name: torch.stack([each[name] for each in distributions]) for name in names}
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
                f"{', '.join(self.fitted) or 'none'}; fit this score too, with anomaly fit-scores"
            )

    def check(self, network: str, classes: tuple[str, ...], path: Path) -> None:
        """Check that the statistics belong to a network.

        Args:
            network: SHA-256 of the network's weights.
            classes: Names of the network's classes.
            path: File of the statistics, for the message.

        Raises:
            InputError: The statistics belong to another network, or to other classes.
        """
        if self.classes != tuple(classes):
            raise InputError(
                f"{path}: expected statistics of a network with the classes {', '.join(classes)}, found "
                f"{', '.join(self.classes)}; fit the scores to this network, with anomaly fit-scores"
            )
        if self.network != network:
            raise InputError(
                f"{path}: expected statistics of this network (weights {network[:12]}), found those of another "
                f"({self.network[:12]}); fit the scores to this network, with anomaly fit-scores"
            )

    def differences(self, inference: Inference) -> str:
        """Describe settings that differ from those of fitting, such as ``window 64x64 (here the whole)``.

        Args:
            inference: The current settings.

        Returns:
            A text; empty if nothing differs.
        """
        fitted, here = self.origin.get("inference") or {}, inference.record()
        names = [name for name in LOOKING if name in fitted and fitted[name] != here[name]]
        return ", ".join(f"{name} {_in_words(fitted[name])} (here {_in_words(here[name])})" for name in names)


def weights_hash(state: dict[str, Tensor]) -> str:
    """Compute a hash of a network's tensors, independent of device and file.

    Tensors that only training uses (``.em.``, the EM state of GMMSeg, which a file may lack) are left out.

    Args:
        state: State dict of the network.

    Returns:
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in state if ".em." not in name):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def fittable(gives: Iterable[str]) -> list[Score]:
    """List all scores that can be computed for a network with these outputs."""
    gives = set(gives)
    return [score for score in SCORES.values() if serves(score, gives)]


def bases(scores: Iterable[Score]) -> list[Score]:
    """List the scores to fit: parts of combinations and scores without their parameters, each once."""
    parts = [part for score in scores for part in score.parts or (score,)]
    return list({part.base: replace(part, name=part.base, parameters={}) for part in parts}.values())


def _named(tensors: dict[str, dict[str, Tensor]], prefix: str) -> list[tuple[str, Tensor]]:
    return [(f"{prefix}{score}/{name}", value) for score, values in tensors.items() for name, value in values.items()]


def _in_words(setting: Any) -> str:
    """Format a window, scales or a word."""
    if not isinstance(setting, list):
        return "the whole" if setting is None else str(setting)
    return ("x" if isinstance(setting[0], int) else " ").join(map(str, setting))
