"""How close texts are to those that they should be: BLEU and chrF of many rows, under one weighting or many.

Both are made of counts that add up over rows, so a bootstrap is a matrix of weights times these counts. The n-grams of
BLEU are counted by sacrebleu, with its usual tokens (Post 2018, arXiv:1804.08771).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from sounding.errors import UserError

ORDER = 4
"""N-grams of words up to so many, as in BLEU (Papineni et al. 2002)."""
CHARACTERS = 6
"""N-grams of characters up to so many, and recall counts `BETA` squared times: chrF2 (Popović 2015)."""
BETA = 2.0

Texts = tuple[str, ...]


@lru_cache(maxsize=16)  # a bootstrap asks for the same texts again and again
def bleu_counts(said: Texts, truth: Texts, *, lowercase: bool = False) -> np.ndarray:
    """(N, 10): of each row the words said and true, then the n-grams that are right, then those that were said.

    Raises:
        UserError: where sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise UserError("BLEU needs sacrebleu, not installed here", "pip install 'sounding[text]'") from None
    metric = BLEU(lowercase=lowercase, effective_order=True)
    scores = (metric.sentence_score(one, [true]) for one, true in zip(said, truth, strict=True))
    rows = [[score.sys_len, score.ref_len, *score.counts, *score.totals] for score in scores]
    return np.array(rows, dtype=np.float64).reshape(len(said), 2 + 2 * ORDER)


def bleu(counts: np.ndarray) -> np.ndarray:
    """(S,) BLEU in [0, 100] of (S, 10) sums of counts; orders without a match are smoothed as sacrebleu does ("exp").

    >>> bleu(np.array([[4.0, 4, 4, 3, 2, 1, 4, 3, 2, 1]])).round(1)
    array([100.])
    """
    lengths, (right, said) = counts[:, :2], np.split(counts[:, 2:], 2, axis=1)
    none = (right == 0) & (said > 0)
    halved = 0.5 ** np.cumsum(none, axis=1)  # Chen and Cherry 2014, method 3
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(none, halved / said, right / said)
        brevity = np.where(lengths[:, 0] < lengths[:, 1], np.exp(1 - lengths[:, 1] / lengths[:, 0]), 1.0)
        value = 100 * brevity * np.exp(np.log(precision).mean(1))
    return np.asarray(np.where((right.sum(1) > 0) & (said > 0).all(1), value, 0.0))


@lru_cache(maxsize=8)
def character_counts(said: Texts, truth: Texts) -> np.ndarray:
    """(N, 6, 3): of each row and order the n-grams of characters that were said, that are true, and that are both.

    Blanks do not count, nor do n-grams that are longer than the true text.
    """
    rows = np.zeros((len(said), CHARACTERS, 3))
    for row, pair in zip(rows, zip(said, truth, strict=True), strict=True):
        one, other = ("".join(text.split()) for text in pair)
        for order in range(1, CHARACTERS + 1):
            grams, true = (
                Counter(text[at : at + order] for at in range(len(text) - order + 1)) for text in (one, other)
            )
            row[order - 1] = grams.total() if true else 0, true.total(), (grams & true).total()
    return rows


def chrf(counts: np.ndarray) -> np.ndarray:
    """(S,) chrF2 in [0, 100] of (S, 6, 3) sums of counts; orders that one of the texts lacks are left out.

    >>> counts = character_counts(("abcd",), ("abcd",))
    >>> chrf(counts).round(1)
    array([100.])
    """
    said, true, both = np.moveaxis(counts, 2, 0)
    there = (said > 0) & (true > 0)
    orders = np.maximum(there.sum(1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(there, both / said, 0.0).sum(1) / orders
        recall = np.where(there, both / true, 0.0).sum(1) / orders
        value = 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
    return np.asarray(np.nan_to_num(value))


def text_metrics(
    said: Sequence[str], truth: Sequence[str], weight: np.ndarray | None = None, names: Sequence[str] = ()
) -> dict[str, Any]:
    """The named metrics, or all.

    bleu, bleu_lowercased  in [0, 100], of all rows together; letters as they are, or all small
    chrf                   in [0, 100], the same of characters
    exact_match            the share of rows whose text is right to the letter

    weight: none, (N,), or (S, N) for S weightings at once; then each metric is (S,).
    """
    pair = (tuple(said), tuple(truth))
    weights = np.ones((1, len(truth))) if weight is None else np.atleast_2d(weight)
    several = weight is not None and np.ndim(weight) == 2
    found = {}
    for name in names or ("bleu", "bleu_lowercased", "chrf", "exact_match"):
        if name.startswith("bleu"):
            value = bleu(weights @ bleu_counts(*pair, lowercase=name == "bleu_lowercased"))
        elif name == "chrf":
            counts = character_counts(*pair)
            value = chrf((weights @ counts.reshape(len(counts), -1)).reshape(len(weights), CHARACTERS, 3))
        else:
            right = np.array([one == true for one, true in zip(*pair, strict=True)], dtype=np.float64)
            value = weights @ right / weights.sum(1)
        found[name] = value if several else float(value[0])
    return found
