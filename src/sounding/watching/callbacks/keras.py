"""The watch for Keras on its PyTorch backend."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import keras
from torch import nn
from torch.utils.hooks import RemovableHandle

from sounding.errors import UserError
from sounding.finding import Finding
from sounding.watching.watcher import Watch, watch


def _print(line: str) -> None:
    print(line, file=sys.stderr)


class WatchCallback(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Watches a fit: `model.fit(..., callbacks=[WatchCallback()])`.

    Seen are the calls of the model, losses, gradients, updates and validation. Not seen is what Keras does in its own
    way: layers know whether they train by an argument, not by a mode, so the rules on modes stay silent; and copies of
    model and optimizer are not made, so no experiment is done and only what is certain by looking is told.
    Keras tells its callbacks nothing of an exception: where there may be one, call `close()` afterwards.

    say:   is told of each finding when it arises, and of all at the end; none keeps silent.
    score: the name in the logs of what the answers are judged by, such as `val_accuracy`: see `Watch.validation`.
    higher_is_better: of the score.

    Raises:
        UserError: at the start of a fit on another backend.
    """

    def __init__(
        self, *, say: Callable[[str], None] | None = _print, score: str = "", higher_is_better: bool = True
    ) -> None:
        super().__init__()
        self._say, self._score, self._higher_is_better = say, score, higher_is_better
        self._watch: Watch | None = None
        self._steps: KerasSteps | None = None

    @property
    def findings(self) -> list[Finding]:
        """Causes before what follows from them."""
        return self._watch.findings if self._watch is not None else []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin."""
        if keras.backend.backend() != "torch":
            raise UserError(
                f"the watch cannot see what Keras does on {keras.backend.backend()}",
                "set KERAS_BACKEND=torch before Keras is imported",
            )
        self.close()
        model: Any = self.model
        self._steps = KerasSteps(model)
        self._watch = watch(model, self._steps, say=self._say)  # type: ignore[arg-type]
        for seen in self._watch.players.values():
            seen.tapes = deque(maxlen=0)
        self._watch.__enter__()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Tell the loss on validation rows, and the score."""
        if self._watch is not None and logs and "val_loss" in logs:
            score = logs.get(self._score)
            self._watch.validation(logs["val_loss"], score=score, higher_is_better=self._higher_is_better)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """End."""
        self.close()

    def close(self) -> None:
        """End the watch, if it has not ended."""
        if self._steps is not None and self._watch is not None:
            self._watch.__exit__(None, None, None)
            self._steps.close()
            self._steps = None


class KerasSteps:
    """What the watch asks of an optimizer, answered for one of Keras."""

    def __init__(self, model: nn.Module) -> None:
        """Stands around `optimizer.apply` until `close` is called."""
        self._model: Any = model
        self._optimizer: Any = model.optimizer
        self._before: OrderedDict[int, Callable[..., None]] = OrderedDict()
        self._after: OrderedDict[int, Callable[..., None]] = OrderedDict()
        self.state: dict[Any, Any] = {}
        object.__setattr__(self._optimizer, "apply", self._apply)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """One group: what is trained, and the present rate."""
        parameters = [variable.value for variable in self._model.trainable_variables]
        return [{"params": parameters, "lr": float(self._optimizer.learning_rate)}]

    def register_step_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Called before each step."""
        return _registered(hook, self._before)

    def register_step_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Called after each step."""
        return _registered(hook, self._after)

    def close(self) -> None:
        """Leave the optimizer as it was."""
        object.__delattr__(self._optimizer, "apply")

    def _apply(self, *args: Any, **kwargs: Any) -> None:
        for hook in list(self._before.values()):
            hook(self, args, kwargs)
        type(self._optimizer).apply(self._optimizer, *args, **kwargs)
        for hook in list(self._after.values()):
            hook(self, args, kwargs)


def _registered(hook: Callable[..., None], hooks: OrderedDict[int, Callable[..., None]]) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle
