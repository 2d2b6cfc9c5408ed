"""From what a network says of every frame to a text: connectionist temporal classification, read back.

An alignment gives every frame a character or a blank, code 0; its text is what is left when repeats are joined and then
blanks are removed. Source: Graves et al. 2006, section 3; prefix search: Hannun et al. 2014, arXiv:1408.2873, algorithm
1, without a language model.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

WORTH = math.log(1e-4)
"""Characters of a smaller probability than this in a frame begin no new prefix there."""

Prefix = tuple[int, ...]


def greedy(scores: np.ndarray) -> Prefix:
    """The text of the most probable alignment of (frames, codes) scores of any kind.

    >>> greedy(np.eye(3)[[1, 1, 0, 1, 2]])
    (1, 1, 2)
    """
    best = scores.argmax(1)
    first = np.concatenate([[True], best[1:] != best[:-1]]) if len(best) else np.empty(0, dtype=bool)
    return tuple(best[first & (best != 0)].tolist())


def beam_search(log_probabilities: np.ndarray, width: int, worth: float = WORTH) -> Prefix:
    """The text whose alignments together are most probable, as far as a search that keeps `width` beginnings finds it.

    log_probabilities: (frames, codes); code 0 is the blank.

    >>> both = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))  # nothing: 0.36; one character, in three ways: 0.64
    >>> greedy(both), beam_search(both, 4)
    ((), (1,))
    """
    beam: dict[Prefix, tuple[float, float]] = {(): (0.0, -math.inf)}  # those that end in a blank, and the others
    for frame in log_probabilities.tolist():
        grown: dict[Prefix, list[float]] = defaultdict(lambda: [-math.inf, -math.inf])
        offered = [(code, score) for code, score in enumerate(frame) if code and score >= worth]
        for prefix, (blank, other) in beam.items():
            either = _sum(blank, other)
            own = grown[prefix]
            own[0] = _sum(own[0], either + frame[0])
            if prefix:
                own[1] = _sum(own[1], other + frame[prefix[-1]])
            for code, score in offered:
                longer = grown[*prefix, code]
                before = blank if prefix and code == prefix[-1] else either  # a repeat needs a blank between
                longer[1] = _sum(longer[1], before + score)
        kept = sorted(grown.items(), key=lambda item: -_sum(*item[1]))[:width]
        beam = {prefix: (blank, other) for prefix, (blank, other) in kept}
    return max(beam.items(), key=lambda item: _sum(*item[1]))[0]


def frames_needed(codes: np.ndarray) -> np.ndarray:
    """(N,) the fewest frames that hold the text of each row of codes, 0 behind the last: repeats need a blank between.

    >>> frames_needed(np.array([[1, 2, 0], [1, 1, 2], [0, 0, 0]]))
    array([2, 4, 0])
    """
    repeats = (codes[:, 1:] == codes[:, :-1]) & (codes[:, 1:] > 0)
    return np.asarray((codes > 0).sum(1) + repeats.sum(1))


def _sum(one: float, other: float) -> float:
    """log(exp(one) + exp(other))."""
    high, low = (one, other) if one > other else (other, one)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
