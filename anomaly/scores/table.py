"""Every score by name. A new one is a function in a file of this folder, its test and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.density import gmm_nll
from anomaly.scores.logits import energy, max_logit
from anomaly.scores.softmax import entropy, msp


@dataclass(frozen=True)
class Score:
    """A way to turn a network's output into one anomaly score per pixel.

    Args:
        name: Name on the command line, in results and in plots.
        function: ``(B, C, H, W)`` -> ``(B, H, W)`` float32, higher = more anomalous.
        needs: The network output that ``function`` takes.
        source: The paper it comes from.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    needs: Literal["logits", "class_log_likelihood"]
    source: str


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("gmm_nll", gmm_nll, "class_log_likelihood", "Liang et al., NeurIPS 2022"),
        Score("msp", msp, "logits", "Hendrycks & Gimpel, ICLR 2017"),
        Score("max_logit", max_logit, "logits", "Hendrycks et al., ICML 2022"),
        Score("entropy", entropy, "logits", "Hendrycks & Gimpel, ICLR 2017"),
        Score("energy", energy, "logits", "Liu et al., NeurIPS 2020"),
    )
}


def stored_scores(names: Iterable[str]) -> list[Score]:
    """Scores that are read from a store and never computed."""

    def function(output: Tensor) -> Tensor:
        raise InputError("expected scores that are stored, found a network's output; name scores that can be computed")

    return [Score(name, function, "logits", "stored") for name in names]


def get_scores(names: Iterable[str]) -> list[Score]:
    """Look scores up by name, in the order given, each once.

    Raises:
        InputError: There is no score of that name; the message lists all, the closest name first.
    """
    return [_get_score(name) for name in dict.fromkeys(names)]


def _get_score(name: str) -> Score:
    if name not in SCORES:
        closest = sorted(SCORES, key=lambda known: -SequenceMatcher(None, name, known).ratio())
        raise InputError(f"unknown score {name!r}; the scores are {', '.join(closest)}")
    return SCORES[name]
