from __future__ import annotations

import numpy as np
import pytest
import sacrebleu

from sounding.tasks.text_metrics import bleu, bleu_counts, character_counts, chrf, text_metrics

WORDS = "a the man woman dog red ball runs sits on in park . , Two Zwei".split()


def texts(seed: int, rows: int = 12) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts, and others that share a part of their words."""
    draws = np.random.default_rng(seed)
    truth, said = [], []
    for _ in range(rows):
        words = draws.choice(WORDS, size=draws.integers(1, 12)).tolist()
        truth.append(" ".join(words))
        kept = [word for word in words if draws.random() < 0.95]
        said.append(" ".join(word if draws.random() < 0.8 else draws.choice(WORDS) for word in kept))
    return tuple(said), tuple(truth)


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_bleu_is_that_of_sacrebleu(seed: int, lowercase: bool) -> None:
    said, truth = texts(seed, rows=[1, 2, 12][seed % 3])
    expected = sacrebleu.corpus_bleu(list(said), [list(truth)], lowercase=lowercase).score
    assert float(bleu(bleu_counts(said, truth, lowercase=lowercase).sum(0)[None])[0]) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(8))
def test_chrf_is_that_of_sacrebleu(seed: int) -> None:
    said, truth = texts(seed, rows=[1, 2, 12][seed % 3])
    expected = sacrebleu.corpus_chrf(list(said), [list(truth)]).score
    assert float(chrf(character_counts(said, truth).sum(0)[None])[0]) == pytest.approx(expected)


def test_nothing_right_is_nothing() -> None:
    found = text_metrics(["x y z w v"], ["a b c d e"])
    assert found == {"bleu": 0.0, "bleu_lowercased": 0.0, "chrf": 0.0, "exact_match": 0.0}
    assert text_metrics([""], ["a b c d e"]) == found


def test_everything_right_is_everything() -> None:
    said = ["Two men sit on a bench .", "A dog runs ."]
    assert text_metrics(said, said) == pytest.approx(
        {"bleu": 100, "bleu_lowercased": 100, "chrf": 100, "exact_match": 1}
    )


def test_letters_of_another_size_count_where_they_are_asked_to() -> None:
    found = text_metrics(["two men sit on a bench"], ["Two men sit on a bench"])
    assert found["bleu"] < 100
    assert found["bleu_lowercased"] == pytest.approx(100)


def test_weights_count_rows_again_and_again() -> None:
    said, truth = texts(3)
    draws = np.random.default_rng(0)
    weights = draws.multinomial(len(said), np.full(len(said), 1 / len(said)), size=5).astype(float)
    found = text_metrics(said, truth, weights)
    for at, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(said)), counts)
        again = text_metrics([said[row] for row in rows], [truth[row] for row in rows])
        for name, value in again.items():
            assert found[name][at] == pytest.approx(value), name
    assert text_metrics(said, truth, weights[0])["bleu"] == pytest.approx(found["bleu"][0])


def test_only_what_is_asked_for_is_measured() -> None:
    assert set(text_metrics(["a"], ["a"], names=["chrf"])) == {"chrf"}
