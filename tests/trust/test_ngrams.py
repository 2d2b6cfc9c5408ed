"""Counts of sequences of tokens, against a dictionary."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from sounding.trust.ngrams import witten_bell


def slow(train: list[int], before: list[int], token: int, codes: int, length: int) -> float:
    """By the formula, from counts of one length after the other."""
    if length == 0:
        return 1 / codes
    shorter = slow(train, before, token, codes, length - 1)
    if len(before) < length - 1:
        return shorter
    context = tuple(before[len(before) - length + 1 :])
    counts: dict[int, int] = defaultdict(int)
    for at in range(length - 1, len(train)):
        if tuple(train[at - length + 1 : at]) == context:
            counts[train[at]] += 1
    total, kinds = sum(counts.values()), len(counts)
    return shorter if not total else (counts[token] + kinds * shorter) / (total + kinds)


def test_it_is_the_formula() -> None:
    draw = np.random.default_rng(0)
    train = draw.integers(1, 5, 200)
    texts = [draw.integers(1, 7, size).tolist() for size in (12, 1, 7)]  # with tokens that training never met
    tokens = np.array([token for text in texts for token in text])
    place = np.array([at for text in texts for at in range(len(text))])
    for length, found in enumerate(witten_bell(train, tokens, place, 6, 4), start=1):
        expected = [
            slow(train.tolist(), text[:at], token, 6, length) for text in texts for at, token in enumerate(text)
        ]
        np.testing.assert_allclose(found, expected)


def test_probabilities_of_all_tokens_add_up_to_one() -> None:
    train = np.random.default_rng(1).integers(0, 5, 300)
    context = [1, 2, 3]
    sums = np.zeros(4)
    for token in range(6):
        tokens = np.array([*context, token])
        sums += [found[-1] for found in witten_bell(train, tokens, np.arange(4), 6, 4)]
    np.testing.assert_allclose(sums, 1)
