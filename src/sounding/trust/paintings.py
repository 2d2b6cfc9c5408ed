"""What is near a style without a network: the picture as it is, and the picture in the colours of the style."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor

from sounding.tasks.style import Style
from sounding.trust.problem import Model, Problem

CHUNK = 64
"""Pictures that are compared at a time."""


def as_it_is(problem: Problem) -> tuple[np.ndarray, str]:
    """Every picture unchanged."""
    return _compared(problem, lambda pictures: pictures), ""


def colours_matched(problem: Problem) -> tuple[np.ndarray, str]:
    """Every channel with mean and deviation of the style's (Reinhard et al. 2001, "Color transfer between images")."""
    style = cast("Style", problem.task).style
    mean, deviation = style.mean((2, 3), keepdim=True), style.std((2, 3), keepdim=True)

    def matched(pictures: Tensor) -> Tensor:
        own, spread = pictures.mean((2, 3), keepdim=True), pictures.std((2, 3), keepdim=True).clamp(min=1e-3)
        channels = pictures.shape[1]
        wanted = (mean, deviation) if channels == 3 else (mean.mean(1, keepdim=True), deviation.mean(1, keepdim=True))
        return ((pictures - own) / spread * wanted[1] + wanted[0]).clamp(0.0, 1.0)

    return _compared(problem, matched), ""


def _compared(problem: Problem, change: Callable[[Tensor], Tensor]) -> np.ndarray:
    """(N, 2) as the task predicts them; rows that only train are left out, which takes long and measures nothing."""
    task, measured = cast("Style", problem.task), np.concatenate([problem.split.validation, problem.split.test])
    values = np.full((len(problem.target), 2), np.nan)
    for at in range(0, len(measured), CHUNK):
        rows = measured[at : at + CHUNK]
        pictures = torch.from_numpy(problem.target[rows]).float() / 255
        with torch.inference_mode():
            distances = task.distances(change(pictures), pictures)
        values[rows] = torch.stack([distances.content, distances.style], 1).double().numpy()
    return values


PAINTINGS: Mapping[str, Model] = {"the picture as it is": as_it_is, "its colours matched": colours_matched}
"""By name, the one that changes nothing first."""
