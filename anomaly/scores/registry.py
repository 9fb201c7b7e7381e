"""The registry of scores by name.

To add a score, write a function in a module of this folder, its test, and a line here. This module does not import
torch: the function of a score is imported when it is first called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from anomaly.datasets.fingerprint import check_unseen
from anomaly.errors import InputError
from anomaly.models.base import MASKS, Prediction
from anomaly.utils.lazy import LazyFunction
from anomaly.utils.names import by_name, check_distinct
from anomaly.utils.optional import needs
from anomaly.utils.parameters import bind, parse_call

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly.scores.sample import PixelSample

_LOGITS, _CLASSES, _FEATURES = "logits", "class_log_likelihood", "features"
_COMPONENTS, _PEAK, _OUTLIERS = "component_log_prob", "component_peak", "outlier_log_likelihood"


def _lazy(place: str) -> LazyFunction:
    """Refer to a function of a module of this folder as ``"module:function"``, imported on first use."""
    return LazyFunction(f"anomaly.scores.{place}", "torch")


@dataclass(frozen=True)
class Score:
    """A way to turn a network's output into one anomaly score per pixel.

    Args:
        name: Name on the command line, in results and in plots.
        function: Function of the fields of a :class:`~anomaly.models.base.Prediction` that it ``needs``. Parameters and
            statistics are keyword arguments. It returns ``(B, h, w)`` float32, higher = more anomalous.
        needs: Names of these fields.
        source: Paper that introduced it.
        formula: Formula in one line; :data:`SYMBOLS` explains the symbols.
        description: Short explanation, for the glossary and the report.
        fit: Function that computes its statistics from training pixels; ``None`` if it needs none.
        check: Function that checks parameters, with or without statistics; ``None`` if the score's function does.
        usual: Whether it is computed by default.
        compares: Whether it compares classes, so that a single density of all pixels gives nothing to compare.
        parts: Scores of a combination, whose function takes them stacked, ``(S, B, h, w)``.
        parameters: Parameters that differ from the defaults of the function.
        statistics: Fitted statistics.
        learned_from: Hashes (:func:`anomaly.frames.image_hash`) of the images used for fitting; evaluating them is an
            error.
    """

    name: str
    function: Callable[..., Tensor]
    needs: tuple[str, ...]
    source: str
    formula: str = ""
    description: str = ""
    fit: Callable[[PixelSample], dict[str, Tensor]] | None = None
    check: Callable[..., None] | None = None
    usual: bool = False
    compares: bool = False
    parts: tuple[Score, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    learned_from: frozenset[str] = frozenset()

    def __call__(self, prediction: Prediction) -> Tensor:
        """Compute the score of every pixel. Shape ``(B, h, w)``, float32, higher = more anomalous."""
        if self.parts:
            import torch

            inputs: list[Any] = [torch.stack([part(prediction) for part in self.parts])]
        else:
            inputs = [getattr(prediction, name) for name in self.needs]
        score: Tensor = self.function(*inputs, **self.parameters, **self.statistics)
        return score

    @property
    def base(self) -> str:
        """Name without parameters."""
        return self.name.partition(":")[0]

    @property
    def fitted(self) -> bool:
        """Whether it needs statistics of training images."""
        return self.fit is not None or bool(self.parts)


SCORES: dict[str, Score] = by_name(
    (
        Score(
            "gmm_nll",
            _lazy("density:gmm_nll"),
            (_CLASSES,),
            "Liang et al., NeurIPS 2022",
            formula="-max_c log p(x|c)",
            description="How unlikely the pixel is under the class that explains it best.",
            usual=True,
        ),
        Score(
            "predicted_nll",
            _lazy("density:predicted_nll"),
            (_CLASSES, _LOGITS),
            "Liang et al., NeurIPS 2022",
            formula="-log p(x|c*), c* = argmax_c l_c",
            description="How unlikely the pixel is under the class that the network predicts.",
        ),
        Score(
            "marginal_nll",
            _lazy("density:marginal_nll"),
            (_COMPONENTS,),
            "Bishop, IEE Proc. VISP 1994",
            formula="-log 1/C sum_c p(x|c)",
            description="How unlikely the pixel is under all classes together, each of them equally frequent.",
        ),
        Score(
            "empirical_nll",
            _lazy("density:empirical_nll"),
            (_COMPONENTS,),
            "Bishop, IEE Proc. VISP 1994",
            formula="-log sum_c pi_c p(x|c)",
            description="How unlikely the pixel is under all classes, each with its share pi_c of training pixels.",
            fit=_lazy("density:fit_prior"),
        ),
        Score(
            "outlier_ratio",
            _lazy("density:outlier_ratio"),
            (_OUTLIERS, _CLASSES),
            "Bishop, IEE Proc. VISP 1994",
            formula="log p(x|outlier) - log 1/C sum_c p(x|c)",
            description="How much likelier the pixel is under the density of outliers than under all classes together.",
            usual=True,
        ),
        Score(
            "likelihood_margin",
            _lazy("density:likelihood_margin"),
            (_CLASSES,),
            "Neyman & Pearson, 1933",
            formula="-(log p(x|c1) - log p(x|c2))",
            description="How close the second likeliest class comes to the likeliest, whatever their level.",
            compares=True,
        ),
        Score(
            "nearest_component",
            _lazy("density:nearest_component"),
            (_COMPONENTS, _PEAK),
            "Lee et al., NeurIPS 2018",
            formula="min_cp sum_d (x_d - mu_cpd)^2 / var_cpd",
            description="Squared distance to the nearest component of any class, in its standard deviations.",
        ),
        Score(
            "typicality",
            _lazy("typicality:typicality"),
            (_CLASSES,),
            "Nalisnick et al., 2019",
            formula="|log p(x|c*) - median_c*| / |tail_c* - median_c*|",
            description="How unusual the likelihood is for its class, whether too low or too high; 1 is a 5 % tail.",
            fit=_lazy("typicality:fit"),
        ),
        Score(
            "standardised_nll",
            _lazy("standardised:nll"),
            (_CLASSES,),
            "Jung et al., ICCV 2021",
            formula="-(log p(x|c*) - mean_c*) / std_c*",
            description="gmm_nll relative to the training pixels of the same class, in standard deviations.",
            fit=_lazy("standardised:fit_nll"),
        ),
        Score(
            "msp",
            _lazy("softmax:msp"),
            (_LOGITS,),
            "Hendrycks & Gimpel, ICLR 2017",
            formula="1 - max_c p_c",
            description="How far the network is from being certain of its class (maximum softmax probability).",
            usual=True,
        ),
        Score(
            "max_logit",
            _lazy("logits:max_logit"),
            (_LOGITS,),
            "Hendrycks et al., ICML 2022",
            formula="-max_c l_c",
            description="High where no class has a large logit. Unlike msp, it depends on the level of the logits.",
            usual=True,
        ),
        Score(
            "entropy",
            _lazy("softmax:entropy"),
            (_LOGITS,),
            "Hendrycks & Gimpel, ICLR 2017",
            formula="-sum_c p_c log p_c",
            description="How evenly the network spreads its probability over the classes.",
            usual=True,
        ),
        Score(
            "energy",
            _lazy("logits:energy"),
            (_LOGITS,),
            "Liu et al., NeurIPS 2020",
            formula="-T log sum_c exp(l_c / T)",
            description="High where no class has a large logit, all classes counted. T is from 0.001 to 1000.",
            usual=True,
        ),
        Score(
            "gen",
            _lazy("softmax:gen"),
            (_LOGITS,),
            "Liu et al., CVPR 2023",
            formula="sum_c p_c^gamma (1 - p_c)^gamma",
            description="An entropy in which small probabilities weigh more, over the most probable classes.",
        ),
        Score(
            "margin",
            _lazy("logits:margin"),
            (_LOGITS,),
            "Scheffer et al., IDA 2001",
            formula="-(l_1 - l_2)",
            description="How close the second largest logit comes to the largest.",
        ),
        Score(
            "sml",
            _lazy("standardised:sml"),
            (_LOGITS,),
            "Jung et al., ICCV 2021",
            formula="-(l_c* - mean_c*) / std_c*",
            description="max_logit relative to the training pixels of the same class, in standard deviations.",
            fit=_lazy("standardised:fit_sml"),
        ),
        Score(
            "rba",
            _lazy("masks:rba"),
            MASKS,
            "Nayal et al., ICCV 2023",
            formula="-sum_c tanh(S_c)",
            description="High where all classes of a mask classifier reject the pixel (rejected by all).",
            usual=True,
        ),
        Score(
            "eam",
            _lazy("masks:eam"),
            MASKS,
            "Grcic et al., CVPRW 2023",
            formula="1 - sum_q sigmoid(m_q) max_c p_q(c)",
            description="High where no mask of a certain class covers the pixel (ensemble over anomaly masks).",
            usual=True,
        ),
        Score(
            "max_class_sum",
            _lazy("masks:max_class_sum"),
            MASKS,
            "Hendrycks et al., ICML 2022",
            formula="-max_c S_c",
            description="High where no class has a large sum over masks: max_logit for mask classifiers.",
            usual=True,
        ),
        Score(
            "mask_entropy",
            _lazy("masks:mask_entropy"),
            MASKS,
            "Hendrycks & Gimpel, ICLR 2017",
            formula="-sum_c s_c log s_c, s_c = S_c / sum_k S_k",
            description="How evenly the masks that cover the pixel spread over the classes.",
            usual=True,
        ),
        Score(
            "no_object",
            _lazy("masks:no_object"),
            MASKS,
            "Cheng et al., NeurIPS 2021",
            formula="sum_q p_q(no object) sigmoid(m_q)",
            description="How much the masks that cover the pixel are those of no object.",
        ),
        Score(
            "mahalanobis",
            _lazy("mahalanobis:nearest"),
            (_FEATURES,),
            "Lee et al., NeurIPS 2018",
            formula="min_c (f - mu_c)' S^-1 (f - mu_c)",
            description="Squared distance to the nearest class mean, relative to the covariance S within classes.",
            fit=_lazy("mahalanobis:fit_nearest"),
        ),
        Score(
            "relative_mahalanobis",
            _lazy("mahalanobis:relative"),
            (_FEATURES,),
            "Ren et al., 2021",
            formula="mahalanobis - (f - mu)' T^-1 (f - mu)",
            description="Distance to the nearest class, less that to a single Gaussian (mu, T) of all training pixels.",
            fit=_lazy("mahalanobis:fit_relative"),
        ),
        Score(
            "knn",
            _lazy("knn:knn"),
            (_FEATURES,),
            "Sun et al., ICML 2022",
            formula="|f / |f| - g_k|",
            description="Distance to g_k, the k-th nearest of up to 2,000 training features of unit length.",
            fit=_lazy("knn:fit"),
            check=_lazy("knn:check"),
        ),
        Score(
            "vim",
            _lazy("vim:vim"),
            (_FEATURES, _LOGITS),
            "Wang et al., CVPR 2022",
            formula="alpha |R'(f - o)| - log sum_c exp(l_c)",
            description="How much of the feature lies outside the main directions of training features, plus energy.",
            fit=_lazy("vim:fit"),
            check=_lazy("vim:check"),
        ),
    ),
    "scores",
)
COMBINATIONS: dict[str, Score] = by_name(
    (
        Score(
            "rank_average",
            _lazy("combinations:rank_average"),
            (),
            "Dwork et al., Rank Aggregation, WWW 2001",
            formula="mean_s rank(s)",
            description="Mean over several scores of the share of training pixels with a lower score.",
        ),
        Score(
            "zscore_sum",
            _lazy("combinations:zscore_sum"),
            (),
            "Kittler et al., Combining Classifiers, TPAMI 1998",
            formula="sum_s (s - mean_s) / std_s",
            description="Sum of several scores, each standardised on training pixels first.",
        ),
    ),
    "combinations",
)
FORMER = {"likelihood_ratio": "likelihood_margin"}
"""Current name of each score that had another one, by its former name, which records and files may hold."""
SYMBOLS = (
    "c is a class, l_c its logit and p_c its softmax probability. p(x|c) is the likelihood of the pixel's embedding x "
    "under class c, and p(x|outlier) that under a density fitted to outliers. f is the feature that the last layer "
    "classifies, and c* the class with the largest value. A mask classifier has queries q, each with a mask m_q (before"
    " the sigmoid) and class probabilities p_q(c); the sum of a class is S_c = sum_q p_q(c) sigmoid(m_q). Sums over "
    "classes leave out the no-object class."
)
"""Explanation of the symbols in the formulas."""


def given_score(name: str) -> Score:
    """Return a score that the model computes itself, under a given name."""
    return Score(name, lambda score: score, ("score",), "computed by the model")


def stored_scores(names: Iterable[str]) -> list[Score]:
    """Return scores that are read from stored score maps and cannot be computed."""

    def function(output: Tensor) -> Tensor:
        raise InputError("expected stored score maps, found a network's output; name scores that can be computed")

    return [Score(name, function, (_LOGITS,), "stored") for name in names]


def get_scores(texts: Iterable[str]) -> list[Score]:
    """Look up scores by name.

    Args:
        texts: Each is ``NAME``, ``NAME:PARAMETER=VALUE`` such as ``energy:temperature=2``, or a combination of scores
            with default parameters such as ``rank_average:of=gmm_nll+energy``.

    Returns:
        The scores, in the given order.

    Raises:
        InputError: A name is unknown (the message lists all names, the closest first) or occurs twice, or a parameter
            is unknown or out of range.
    """
    names = list(texts)
    check_distinct(names, "scores", "name each once")
    return [_get_score(text) for text in names]


def current_name(text: str) -> str:
    """Replace former names of scores in a name that a record or a file holds.

    Args:
        text: Name of a score as in results: with parameters, parts of a combination, or post-processing.
    """
    return re.sub(r"\w+", lambda word: FORMER.get(word[0], word[0]), text)


def check_not_learned(scores: Iterable[Score], frame: str, image: str) -> None:
    """Check that no score was fitted on an image.

    Args:
        scores: The scores.
        frame: Name of the frame, for the message.
        image: Hash of its image, from :func:`anomaly.frames.image_hash`.

    Raises:
        InputError: A score was fitted on this image.
    """
    for score in scores:
        check_unseen(frame, image, score.learned_from, "the scores' statistics")


def serves(score: Score, gives: Iterable[str]) -> bool:
    """Return whether a score can be computed for a network that gives these fields."""
    return set(score.needs) <= set(gives)


def check_served(scores: Iterable[Score], gives: Iterable[str], own: str = "score") -> None:
    """Check that scores can be computed for a network that gives these fields, fitted or not.

    Args:
        scores: The scores.
        gives: Names of the fields.
        own: Name of the score that the network computes itself, if it does.

    Raises:
        InputError: One cannot; the message says which scores would work.
    """
    fields = set(gives)
    for score in scores:
        if missing := [name for name in score.needs if name not in fields]:
            served = [own] if "score" in fields else []
            served += [name for name, other in SCORES.items() if serves(other, fields)]
            raise InputError(
                f"score {score.name!r} needs the network's {missing[0]}{_way_to(missing[0], fields)}, but this network "
                f"gives only {', '.join(sorted(fields))}; the scores that work with it are {', '.join(served)}"
            )


def _way_to(missing: str, gives: set[str]) -> str:
    """What the user can do about a missing field, or why nothing can be done, for a message."""
    if gives == {"score"}:
        return " (a score function gives only its own score)"
    if "mask_logits" in gives and missing == "logits":
        return " (a mask classifier has class probabilities of masks, not of pixels)"
    if missing == "logits":
        return " (with one class they are not informative: the softmax is 1 everywhere)"
    if missing in MASKS:
        return " (only mask classifiers, such as Mask2Former, give them)"
    if missing == _OUTLIERS:
        return " (only densities that were fitted to outliers too give it)"
    if missing == _PEAK and _COMPONENTS in gives:
        return " (with several densities or a memory bank, no pixel is the mean of a component)"
    return "" if missing == _FEATURES else " (`anomaly fit` fits densities to any network that has none)"


def _get_score(text: str) -> Score:
    name, words = parse_call(text, "score")
    known = {**SCORES, **COMBINATIONS}
    _refuse_former([name, *words.get("of", "").split("+")])
    if name not in known:
        closest = sorted(known, key=lambda other: -SequenceMatcher(None, name, other).ratio())
        raise InputError(f"unknown score {name!r}; the scores are {', '.join(closest)}")
    score = known[name]
    if name in COMBINATIONS:
        return _combined(score, text, words)
    parameters = bind(score.function, words, f"score {name!r}")
    if score.check is not None:  # reports values out of range before any frame is read
        score.check(**parameters)
    elif parameters and not score.fitted:
        with needs("torch"):
            import torch
        score.function(*(torch.zeros(1, 2, 1, 1) for _ in score.needs), **parameters)
    return replace(score, name=text, parameters=parameters)


def _refuse_former(names: Iterable[str]) -> None:
    for name in names:
        if name in FORMER:
            raise InputError(f"score {name!r}: it is now called {FORMER[name]!r}; use that name")


def _combined(score: Score, text: str, words: dict[str, str]) -> Score:
    parts = [part for part in words.pop("of", "").split("+") if part]
    if words or len(set(parts)) < 2 or set(parts) - set(SCORES):
        raise InputError(
            f"{text}: expected at least two scores of {', '.join(SCORES)}, such as {score.name}:of=gmm_nll+energy"
        )
    scores = tuple(get_scores(parts))
    fields = tuple(dict.fromkeys(name for part in scores for name in part.needs))
    return replace(score, name=text, parts=scores, needs=fields)
