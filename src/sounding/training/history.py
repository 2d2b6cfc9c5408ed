"""What a training run did, and when it is over."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from sounding.errors import RecipeError, nearest
from sounding.finding import Finding
from sounding.recipe import TrainingRecipe
from sounding.training.loop import EpochRecord

OVERTIME = 1.25
"""Multiple of a time limit after which training ends even though its schedule has not."""


@dataclass(slots=True)
class History:
    """What a training run did: one record for each epoch, and how it ended."""

    epochs: list[EpochRecord] = field(default_factory=list)
    best: int | None = None
    """The epoch (from 0) with the best monitored value; with a patience, the network ends with its weights."""
    planned: int = 0
    """Epochs that the schedule was made for. A repeat with this number of epochs gives the same bits."""
    ending: str = ""
    """Why training stopped, in plain words."""
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        findings = [finding.to_json() for finding in self.findings]
        return {**asdict(self), "epochs": [record._asdict() for record in self.epochs], "findings": findings}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> History:
        """The inverse of `to_json`."""
        epochs = [EpochRecord(**record) for record in values["epochs"]]
        return cls(**{**values, "epochs": epochs, "findings": [Finding.from_json(one) for one in values["findings"]]})

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.epochs)

    def __getitem__(self, index: int) -> EpochRecord:
        return self.epochs[index]

    def add(self, record: EpochRecord, monitor: str, *, maximize: bool) -> bool:
        """Add an epoch; whether it is the best one so far.

        Raises:
            RecipeError: if the monitored value was not measured.
        """
        self.epochs.append(record)
        if not record.validation:
            return False
        if monitor not in record.validation:
            known = nearest(monitor, record.validation)
            raise RecipeError(f'"{monitor}" is not measured, so it cannot be monitored', known)
        sign = -1.0 if maximize else 1.0
        value = sign * record.validation[monitor]
        if not math.isfinite(value):
            return False
        if self.best is not None and value >= sign * self[self.best].validation[monitor]:
            return False
        self.best = record.epoch
        return True

    def monitored(self, monitor: str, *, maximize: bool) -> list[float]:
        """The monitored value of each epoch, or the training loss where nothing was validated; smaller is better."""
        sign = -1.0 if maximize else 1.0
        return [sign * r.validation[monitor] if monitor in r.validation else r.train_loss for r in self.epochs]

    def over(self, recipe: TrainingRecipe, monitor: str) -> str:
        """Why training is over, in plain words; empty while it is not."""
        done, patience, limit = len(self), recipe.patience, recipe.time
        if done >= self.planned:
            return f"all {self.planned} epochs are done"
        if patience and self.best is not None and done - 1 - self.best >= patience:
            return f"no better {monitor} for {patience} epochs after epoch {self.best + 1}"
        if limit and self.seconds > limit * OVERTIME:
            return f"{self.seconds:.0f} s have passed, more than the limit of {limit:.0f} s"
        return ""
