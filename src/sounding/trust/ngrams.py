"""Counts of short sequences of tokens: the simple models of running text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np

from sounding.tasks import LanguageModeling
from sounding.tasks.build import arrange
from sounding.tasks.token_windows import stream_of
from sounding.trust.problem import Problem

MOST_TOKENS = 5_000_000
"""The last so many training tokens are counted."""
LONGEST = 10
"""Tokens of the longest sequence that is counted."""


def frequencies(problem: Problem) -> tuple[np.ndarray, str]:
    """How frequent each token is among the training rows, whatever came before it."""
    values, note = _by_length(problem, 1)
    return values[0], note


def interpolated(problem: Problem) -> tuple[np.ndarray, str]:
    """Witten-Bell interpolated n-grams, as long as does best on the validation rows."""
    values, note = _by_length(problem, LONGEST)
    costs = [one[problem.split.validation, 0].sum() for one in values]
    best = int(np.argmin(costs)) if len(problem.split.validation) else len(values) - 1
    told = f"{best + 1} tokens long"
    return values[best], f"{told}; {note}" if note else told


def _by_length(problem: Problem, longest: int) -> tuple[list[np.ndarray], str]:
    """For each length of sequence (N, 2) as in the predictions of the task; 0 for training rows."""
    task = cast("LanguageModeling", problem.task)
    (rows,) = arrange(problem.encoded.blocks)
    train = stream_of(rows[problem.split.train]).numpy()
    note = ""
    if len(train) > MOST_TOKENS:
        note = f"counted in the last {MOST_TOKENS:,} of {len(train):,} training tokens"
        train = train[-MOST_TOKENS:]
    asked = np.concatenate([problem.split.validation, problem.split.test])
    tokens = rows[asked].numpy()
    lengths = (tokens != 0).sum(1)
    flat = tokens[tokens != 0]
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    row_of = np.repeat(asked, lengths)
    found = []
    for probabilities in witten_bell(train, flat, place, task.outputs - 1, longest):
        costs = np.where(place > 0, -np.log(probabilities), 0.0)  # the first token of a row is not foretold
        values = np.stack([np.bincount(row_of, costs, minlength=len(rows)), problem.target[:, 0]], axis=1)
        found.append(values)
    return found, note


def witten_bell(
    train: np.ndarray, tokens: np.ndarray, place: np.ndarray, codes: int, longest: int
) -> Iterator[np.ndarray]:
    """The probability of each token by sequences of 1, 2, ... tokens: (M,) float64 for each length.

    What followed a context in training has the share c of its count; the rest, which is the larger the more different
    tokens followed it, goes by the context without its first token, and in the end to all codes alike:
    p(w | context) = (count(context w) + kinds(context) p(w | shorter context)) / (count(context) + kinds(context)).

    train:    (T,) the tokens that are counted.
    tokens:   (M,) those that are asked about, some texts one behind the other.
    place:    (M,) the place of each in its text, from 0.
    codes:    how many different tokens there can be.

    Source: Witten and Bell 1991, method C; as in Chen and Goodman 1998, section 2.6.
    """
    both = np.concatenate([train, tokens]).astype(np.int64)
    before = np.concatenate([np.arange(len(train)), place])  # tokens that stand before each in its text
    is_train = np.arange(len(both)) < len(train)
    base = int(both.max(initial=0)) + 1
    probability = np.full(len(both), 1.0 / codes)
    context, contexts = np.zeros(len(both), dtype=np.int64), 1
    for length in range(1, longest + 1):
        known = before >= length - 1
        keys, number = np.unique(context[known] * base + both[known], return_inverse=True)
        trained = is_train[known]
        counts = np.bincount(number[trained], minlength=len(keys))
        of_context = keys // base
        total = np.bincount(of_context, counts, minlength=contexts)
        kinds = np.bincount(of_context, counts > 0, minlength=contexts)
        own = context[known]
        shorter = probability[known]
        seen = total[own] > 0
        mixed = (counts[number] + kinds[own] * shorter) / np.maximum(total[own] + kinds[own], 1)
        probability[known] = np.where(seen, mixed, shorter)
        yield probability[len(train) :].copy()
        # the sequence that ends at a place is the context of the next place
        sequence = np.zeros(len(both), dtype=np.int64)
        sequence[known] = number
        context = np.concatenate([[0], sequence[:-1]])
        contexts = len(keys)
