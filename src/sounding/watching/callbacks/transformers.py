"""The watch for the Trainer of Hugging Face."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback

from sounding.finding import Finding
from sounding.watching.watcher import Watch, watch


def _print(line: str) -> None:
    print(line, file=sys.stderr)


class WatchCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Watches a training: `Trainer(..., callbacks=[WatchCallback()])`.

    The loss that a model computes itself is seen, the loss function inside the model is not: rules that compare
    outputs with targets need a `compute_loss_func`. The Trainer tells its callbacks nothing of an exception: where
    there may be one, call `close()` afterwards. The metric by which it chooses the best model (`metric_for_best_model`)
    is told as the score of a validation.

    say: is told of each finding when it arises, and of all at the end; none keeps silent.
    """

    def __init__(self, *, say: Callable[[str], None] | None = _print) -> None:
        self._say = say
        self._watch: Watch | None = None
        self._is_open = False

    @property
    def findings(self) -> list[Finding]:
        """Causes before what follows from them."""
        return self._watch.findings if self._watch is not None else []

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: nn.Module, optimizer: Optimizer, **kwargs: Any
    ) -> None:
        """Begin, with the optimizer that lies in the one of `accelerate`."""
        self.close()
        self._watch = watch(model, getattr(optimizer, "optimizer", optimizer), say=self._say).__enter__()
        self._is_open = True

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        """Tell the loss, and the metric by which the best model is chosen."""
        if self._watch is not None and self._is_open and "eval_loss" in metrics:
            name = "eval_" + (args.metric_for_best_model or "loss").removeprefix("eval_")
            score = metrics.get(name) if name != "eval_loss" else None
            self._watch.validation(metrics["eval_loss"], score=score, higher_is_better=bool(args.greater_is_better))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End."""
        self.close()

    def close(self) -> None:
        """End the watch, if it has not ended."""
        if self._watch is not None and self._is_open:
            self._is_open = False
            self._watch.__exit__(None, None, None)
