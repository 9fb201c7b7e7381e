"""Statistics of scores over training images, stored in a file together with the origin of the images."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.combinations import fit_distribution, is_constant
from anomaly.scores.registry import SCORES, Score, serves
from anomaly.scores.sample import PixelSample

State = tuple[dict[str, Any], Sequence[Tensor]]
"""A header of plain values, and the tensors that it names."""
DISTRIBUTION = "distribution"


@dataclass(frozen=True)
class Statistics:
    """Statistics of scores over training pixels.

    Args:
        fitted: Output of ``fit`` of each score, by its name; empty for a score that needs no statistics.
        distributions: Distribution of each score over training pixels, by its name, for combinations.
        images: Hashes (:func:`anomaly.frames.image_hash`) of the training images.
        origin: Further information such as command, seed and counts, as values that JSON can hold.
    """

    fitted: dict[str, dict[str, Tensor]]
    distributions: dict[str, dict[str, Tensor]]
    images: frozenset[str]
    origin: dict[str, Any]

    @classmethod
    def of(
        cls,
        sample: PixelSample,
        scores: Sequence[Score],
        *,
        images: Iterable[str],
        origin: dict[str, Any],
        all_of_them: bool = True,
    ) -> Statistics:
        """Fit scores to training pixels, and store the distribution of each.

        Args:
            sample: The training pixels.
            scores: Scores to fit. Combinations are fitted by fitting their parts; parameters are ignored
                (see :func:`bases`).
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
        return cls(fitted, distributions, frozenset(images), origin)

    def state(self) -> State:
        """Describe the statistics by values that JSON can hold and by tensors, for a file.

        Returns:
            A header, whose entry ``"tensors"`` names the tensors, and the tensors.
        """
        tensors = [*_named(self.fitted, ""), *_named(self.distributions, f"{DISTRIBUTION}/")]
        header = {"origin": self.origin, "scores": list(self.fitted), "tensors": [name for name, _ in tensors]}
        return header, [tensor for _, tensor in tensors]

    @classmethod
    def of_state(cls, state: State, images: Iterable[str]) -> Statistics:
        """Make the statistics from what :meth:`state` returned.

        Args:
            state: The header and the tensors.
            images: Hashes of the training images.

        Raises:
            InputError: The state is damaged.
        """
        header, tensors = state
        try:
            fitted: dict[str, dict[str, Tensor]] = {str(name): {} for name in header["scores"]}
            distributions: dict[str, dict[str, Tensor]] = {}
            for name, tensor in zip(header["tensors"], tensors, strict=True):
                if tensor.dtype != torch.float32 or not (tensor.isfinite() | tensor.isneginf()).all():
                    raise ValueError(f"{name} does not hold finite float32 values")
                score, _, part = str(name).removeprefix(f"{DISTRIBUTION}/").rpartition("/")
                into = distributions if str(name).startswith(f"{DISTRIBUTION}/") else fitted
                into.setdefault(score, {})[part] = tensor
            return cls(fitted, distributions, frozenset(images), dict(header["origin"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"statistics of scores: expected those that `anomaly fit` wrote, found others ({error}); fit again"
            ) from error

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
                f"{', '.join(self.fitted) or 'none'}; fit this score too, with `anomaly fit`"
            )


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
