"""What can be written without listening."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sounding.trust.problem import Problem


def same_text(problem: Problem) -> tuple[np.ndarray, str]:
    """The most frequent text of the training rows, for every row."""
    counts = Counter(problem.target[problem.split.train].tolist())
    text = min(counts, key=lambda text: (-counts[text], text))
    return np.full(len(problem.target), text, dtype=object), ""
