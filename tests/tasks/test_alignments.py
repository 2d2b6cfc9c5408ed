from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sounding.tasks.alignments import beam_search, frames_needed, greedy


def text_of(alignment: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(code for code, _ in groupby(alignment) if code)


def every_text(probabilities: np.ndarray) -> dict[tuple[int, ...], float]:
    """The probability of each text, summed over all of its alignments."""
    frames, codes = probabilities.shape
    texts: dict[tuple[int, ...], float] = {}
    for alignment in product(range(codes), repeat=frames):
        chance = float(np.prod([probabilities[frame, code] for frame, code in enumerate(alignment)]))
        text = text_of(alignment)
        texts[text] = texts.get(text, 0.0) + chance
    return texts


def random_frames(seed: int, frames: int = 5, codes: int = 4) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(size=(frames, codes)) * 1.5
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


@pytest.mark.parametrize("seed", range(20))
def test_a_wide_beam_finds_the_most_probable_text(seed: int) -> None:
    probabilities = random_frames(seed)
    texts = every_text(probabilities)
    assert beam_search(np.log(probabilities), 1000, worth=-np.inf) == max(texts, key=lambda text: texts[text])


def test_a_narrow_beam_does_nearly_as_well_and_better_than_the_best_alignment() -> None:
    found = {"beam": 0.0, "greedy": 0.0, "best": 0.0}
    for seed in range(30):
        probabilities = random_frames(seed, 6)
        texts = every_text(probabilities)
        found["best"] += max(texts.values())
        found["beam"] += texts.get(beam_search(np.log(probabilities), 4), 0.0)
        found["greedy"] += texts.get(greedy(probabilities), 0.0)
    assert 0.97 * found["best"] < found["beam"] <= found["best"]
    assert found["greedy"] < found["beam"]


def test_greedy_reads_the_best_alignment() -> None:
    for seed in range(20):
        probabilities = random_frames(seed)
        best = max(product(range(4), repeat=5), key=lambda a: np.prod([probabilities[f, c] for f, c in enumerate(a)]))
        assert greedy(probabilities) == text_of(best)
    assert greedy(np.empty((0, 3))) == beam_search(np.empty((0, 3)), 4) == ()


def test_the_loss_of_torch_is_the_sum_over_alignments() -> None:
    for seed, text in enumerate([(1,), (1, 1), (2, 1, 3), (3, 3, 1), ()]):
        probabilities = random_frames(seed)
        expected = -np.log(every_text(probabilities).get(text, 0.0))
        target = torch.tensor([[*text, 0]])
        scores = torch.from_numpy(np.log(probabilities))[:, None]
        lengths = torch.tensor([5]), torch.tensor([len(text)])
        loss = F.ctc_loss(scores, target, *lengths, blank=0, reduction="none")
        np.testing.assert_allclose(loss.item(), expected, rtol=1e-6)


def test_frames_needed_are_the_shortest_alignment() -> None:
    for text in [(), (1,), (1, 1), (1, 2, 1), (2, 2, 2), (1, 1, 3, 3)]:
        shortest = next(n for n in range(8) if any(text_of(a) == text for a in product(range(4), repeat=n)))
        assert frames_needed(np.array([[*text, 0, 0]])).tolist() == [shortest]
