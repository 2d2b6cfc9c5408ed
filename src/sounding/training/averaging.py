"""Averages of the weights along the way of training, which often do better than the last ones.

Sources: Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv:1803.05407, for the mean over the end of training. The
decay that rises at the start is that of TensorFlow's `tf.train.ExponentialMovingAverage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from sounding.recipe import TrainingRecipe
from sounding.training.checkpoint import check_tensors
from sounding.training.restoring import evaluating

T = TypeVar("T")


class WeightAverage:
    """A copy of a network's state that follows the network; the rule is that of the class.

    Parameters are averaged, and so are the running statistics of batch norms. All other buffers (counters, tables) are
    copied: their mean means nothing.

    `tensors()` and `values()` are all that a checkpoint needs; after `restore` an average goes on in the same bits.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.updates = 0
        """How many states of the network are in the average; before the first it is the network as it was given."""
        averaged, copied = _state(network)
        self._averaged = {name: tensor.clone() for name, tensor in averaged.items()}
        self._copied = {name: tensor.clone() for name, tensor in copied.items()}

    def update(self) -> None:
        """Take the network's present state in; to be called after each step of the optimizer."""
        raise NotImplementedError

    @torch.no_grad()
    def _move(self, share: float) -> None:
        """Go `share` of the way to the network's present state."""
        averaged, copied = _state(self.network)
        torch._foreach_lerp_(list(self._averaged.values()), list(averaged.values()), share)
        if copied:
            torch._foreach_copy_(list(self._copied.values()), list(copied.values()))
        self.updates += 1

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Give the averaged weights to a network of the same shape."""
        averaged, copied = _state(network)
        for own, theirs in ((self._averaged, averaged), (self._copied, copied)):
            for name, tensor in theirs.items():
                tensor.copy_(own[name])

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """The network has the averaged weights; afterwards its own again, bit for bit, whatever was done to them."""
        before = [(tensor, tensor.clone()) for part in _state(network) for tensor in part.values()]
        self.copy_to(network)
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """The average, under the names of the network."""
        return {**self._averaged, **self._copied}

    def values(self) -> dict[str, Any]:
        """What else is remembered, as plain numbers."""
        return {"updates": self.updates}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Become what `tensors()` and `values()` said.

        Raises:
            DamagedError: if they are those of another network.
        """
        own = self.tensors()
        check_tensors(tensors, own)
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        self.updates = values["updates"]


class ExponentialMovingAverage(WeightAverage):
    """Each step goes a little of the way to the weights of now, so that old ones fade away.

    The average keeps min(decay, (1 + t) / (10 + t)) of itself in step t = 0, 1, ...: at the start it follows the
    network closely, and what that began with is soon forgotten.

    decay:  in [0, 1); the weights of the last 1 / (1 - decay) steps count most.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(network.weight)
    >>> average = ExponentialMovingAverage(network, decay=0.9)
    >>> _ = nn.init.ones_(network.weight)
    >>> average.update()
    >>> with average.applied_to(network):
    ...     print(network.weight.item())
    0.8999999761581421
    >>> network.weight.item()
    1.0
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network)
        self.decay = decay

    def update(self) -> None:
        """Take the network's present state in; to be called after each step of the optimizer."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self._move(1.0 - kept)


class StochasticWeightAverage(WeightAverage):
    """The plain mean of the weights as they are every so many steps, from some step on.

    The running statistics of batch norms are wrong for averaged weights: before these are used, measure them anew
    with `recompute_batch_norm`.

    every:  steps from one state that is taken to the next, such as those of an epoch.
    after:  steps of which none is taken.
    """

    def __init__(self, network: nn.Module, every: int = 1, after: int = 0) -> None:
        super().__init__(network)
        self.every, self.after = every, after
        self.steps = 0
        """How often `update` was called."""

    def update(self) -> None:
        """Count a step of the optimizer, and take the network's present state in where it is due."""
        self.steps += 1
        if self.steps > self.after and (self.steps - self.after) % self.every == 0:
            self._move(1.0 / (self.updates + 1))

    def values(self) -> dict[str, Any]:
        """What else is remembered, as plain numbers."""
        return {**super().values(), "steps": self.steps}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Become what `tensors()` and `values()` said.

        Raises:
            DamagedError: if they are those of another network.
        """
        super().restore(tensors, values)
        self.steps = values["steps"]


def build_average(network: nn.Module, recipe: TrainingRecipe, *, steps: int, epochs: int) -> WeightAverage | None:
    """The average a recipe asks for, if any; `swa` takes the weights at the end of each of the last epochs.

    steps:   in an epoch.
    epochs:  that are planned; at least the last one is taken.
    """
    if recipe.averaging == "ema":
        return ExponentialMovingAverage(network, recipe.average_decay)
    if recipe.averaging == "swa":
        left_out = min(int(recipe.average_start * epochs), epochs - 1)
        return StochasticWeightAverage(network, every=steps, after=left_out * steps)
    return None


@torch.no_grad()
def recompute_batch_norm(network: nn.Module, forward: Callable[[T], object], batches: Iterable[T]) -> None:
    """Measure the running statistics of all batch norms anew: their mean over batches, each counted alike.

    While that is done, everything but the batch norms is in evaluation mode, as it will be when the statistics are
    used: nothing is drawn at random. Without batch norms no batch is looked at.

    forward:  passes a batch through the network.
    batches:  one pass over training rows.
    Source:   Izmailov et al. 2018, arXiv:1803.05407, section 3.2.
    """
    norms = [
        norm
        for norm in network.modules()
        if isinstance(norm, _BatchNorm)
        and norm.running_mean is not None
        and (not norm.affine or norm.weight.requires_grad)  # those of frozen layers stay as they are
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    with evaluating(network):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean of all batches
                norm.train()
            for batch in batches:
                forward(batch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def _state(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The network's own tensors by name: those that are averaged, and those that are copied."""
    averaged = {name: parameter.detach() for name, parameter in network.named_parameters()}
    copied: dict[str, Tensor] = {}
    for prefix, module in network.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                running = isinstance(module, _NormBase) and buffer.is_floating_point()
                (averaged if running else copied)[f"{prefix}.{name}" if prefix else name] = buffer
    return averaged, copied
