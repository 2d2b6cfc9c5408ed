"""The watch for Lightning."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sounding.finding import Finding
from sounding.watching.discovery import Discovery


def _print(line: str) -> None:
    print(line, file=sys.stderr)


class WatchCallback(Callback):  # type: ignore[misc, unused-ignore]
    """Watches a fit: `Trainer(callbacks=[WatchCallback()])`.

    What is watched is the module that `training_step` calls, the Lightning module itself or a network in it, from the
    second step on. Several optimizers are several players.

    say:        is told of each finding when it arises, and of all at the end; none keeps silent.
    validation: under which name `validation_step` logs its loss.
    score:      under which name it logs what the answers are judged by, such as an accuracy: see `Watch.validation`.
    higher_is_better: of the score.
    """

    def __init__(
        self,
        *,
        say: Callable[[str], None] | None = _print,
        validation: str = "val_loss",
        score: str = "",
        higher_is_better: bool = True,
    ) -> None:
        self._say, self._validation = say, validation
        self._score, self._higher_is_better = score, higher_is_better
        self._discovery: Discovery | None = None

    @property
    def findings(self) -> list[Finding]:
        """Causes before what follows from them."""
        return self._discovery.findings if self._discovery is not None else []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._discovery = Discovery(say=self._say, model=pl_module).__enter__()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the loss and the score, where they were logged."""
        loss = trainer.callback_metrics.get(self._validation)
        if loss is not None and not trainer.sanity_checking and self._discovery and self._discovery.watches:
            score = trainer.callback_metrics.get(self._score)
            self._discovery.watches[-1].validation(loss, score=score, higher_is_better=self._higher_is_better)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End."""
        self._end(None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End before the end."""
        self._end(type(exception))

    def _end(self, kind: Any) -> None:
        if self._discovery is not None:
            self._discovery.__exit__(kind, None, None)
