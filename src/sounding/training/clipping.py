"""What is done to gradients that are too large, and what it remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sounding.training.gradients import clip_by_norm, clip_by_percentile, clip_by_value


@dataclass(slots=True)
class Clipping:
    """Cuts gradients by a percentile of recent norms, then by value, then by norm; whatever is 0 is left out.

    Called with the parameters of a player after the backward pass; answers with the norm of their gradients before
    it was cut, or none where no norm was needed.
    """

    norm: float = 0.0
    """Gradients with a larger norm are scaled down to it."""
    value: float = 0.0
    """Entries are cut to at most this size."""
    percentile: float = 0.0
    """Gradients are scaled down to this percentile, in (0, 100), of the norms of recent steps."""
    recent: list[float] = field(default_factory=list)
    """Those norms: all that has to be saved."""

    def __call__(self, parameters: Sequence[Tensor]) -> Tensor | None:
        """Cut the gradients in place; the first of the norms is the one before anything was cut."""
        norms = []
        if self.percentile > 0:
            norms.append(clip_by_percentile(parameters, self.percentile, self.recent))
        if self.value > 0:
            norms.append(clip_by_value(parameters, self.value))
        if self.norm > 0:
            norms.append(clip_by_norm(parameters, self.norm))
        return norms[0] if norms else None
