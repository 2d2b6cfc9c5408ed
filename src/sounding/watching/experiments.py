"""Small experiments on copies of a model: what a suspicion has to pass before anybody hears of it.

The model itself, its optimizer and the random generators are left as they were.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sounding.watching.tape import Tape

if TYPE_CHECKING:
    from sounding.watching.seen import Seen

STEPS, LONG = 50, 150
"""Of a race between a copy as it is and a remedied one; of one between networks that take their time."""
LARGEST_START = 20_000_000
"""Numbers in a model of which the weights at the start are kept."""


class BrokenOffError(Exception):
    """An experiment is not to go on: whoever trains has something more urgent to do, such as to stop."""


class Twin(NamedTuple):
    """A copy of the models and of one player's optimizer, free to be changed."""

    models: dict[str, nn.Module]
    player: str
    optimizer: Optimizer
    go_on: Callable[[], None] = lambda: None
    """Called before each step; raises where the experiment is to be broken off."""

    @property
    def model(self) -> nn.Module:
        """The copy of the model that is trained."""
        return self.models[self.player]

    def scale_rate(self, factor: float) -> None:
        """Multiply every learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def step(self, tape: Tape) -> float:
        """One step on a recorded batch, from fresh gradients; answers with the loss before it."""
        self.go_on()
        self.optimizer.zero_grad(set_to_none=True)
        loss = tape.play(self.models)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return float(loss.detach())


Remedy = Callable[[Twin], None]
"""Changes a copy in the way that is to be tried."""


def rate_times(factor: float) -> Remedy:
    """The remedy of another learning rate."""
    return lambda twin: twin.scale_rate(factor)


@dataclass(frozen=True, slots=True)
class Race:
    """Losses of two copies on the same batches."""

    plain: list[float]
    remedied: list[float]

    @property
    def gain(self) -> float:
        """By what part of the plain copy's loss the remedied one's is lower at the end; 1 where only it is finite."""
        tail = max(len(self.plain) // 5, 1)
        plain, remedied = fmean(self.plain[-tail:]), fmean(self.remedied[-tail:])
        if not math.isfinite(remedied):
            return -math.inf
        if not math.isfinite(plain):
            return 1.0
        return (plain - remedied) / max(abs(plain), 1e-12)

    def __str__(self) -> str:
        tail = max(len(self.plain) // 5, 1)
        return (
            f"a copy with the remedy reached a loss of {fmean(self.remedied[-tail:]):.4g} in {len(self.remedied)} "
            f"steps, one without {fmean(self.plain[-tail:]):.4g}"
        )


class Laboratory:
    """Copies of what is trained, and the batches to try them on."""

    def __init__(self, models: Mapping[str, nn.Module], seen: Seen) -> None:
        self.models, self.seen = models, seen
        self.seconds = 0.0
        """Spent on experiments so far."""
        self.is_open = True
        """Whether there is time for more; set by the watch."""
        self.may_look = True
        """Whether there is time to look at what the model answers, which takes forward passes; set by the watch."""
        self.is_broken_off: Callable[[], bool] = lambda: False
        """Whether an experiment that is on its way is to be left; asked between its steps."""
        self.start: dict[str, Tensor] = {}
        """The weights at the start of training; empty for a model that is too large to keep them."""
        self._plain: tuple[tuple[int, int, int, bool] | None, list[float]] = (None, [])
        self._made: dict[str, tuple[int, Any]] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What several rules ask for after the same step, made once."""
        if self._made.get(name, (-1, None))[0] != self.seen.done:
            self._made[name] = self.seen.done, make()
        return self._made[name][1]

    def keep_start(self) -> None:
        """Keep the weights of now as those at the start."""
        state = self.seen.model.state_dict()
        if sum(tensor.numel() for tensor in state.values()) <= LARGEST_START:
            self.start = {name: tensor.detach().clone() for name, tensor in state.items()}

    @property
    def tapes(self) -> list[Tape]:
        """The batches of late, with how their loss was computed."""
        return [tape for tape in self.seen.tapes if tape.is_whole]

    @property
    def is_ready(self) -> bool:
        """Whether there is time, an optimizer, and a batch whose way to the loss was recorded."""
        optimizer = self.seen.optimizer
        able = optimizer is not None and not isinstance(optimizer, torch.optim.LBFGS)  # steps on closures of the user
        return self.is_open and able and bool(self.tapes)

    def twin(self, *, fresh: bool = False) -> Twin:
        """A copy of everything as it is now, or (fresh) with the weights of the start and nothing in the optimizer."""
        assert self.seen.optimizer is not None
        memo: dict[int, object] = {}  # one for all: the copied optimizer is to hold the copied parameters
        models = copy.deepcopy(dict(self.models), memo)
        optimizer = copy.deepcopy(self.seen.optimizer, memo)
        for name, value in vars(self.seen.optimizer).items():  # a copy holds only what an optimizer would save
            if name not in vars(optimizer) and name != "step":  # which a scheduler has put there, bound to the original
                setattr(optimizer, name, copy.deepcopy(value, memo))
        for model in models.values():
            for parameter in model.parameters():
                parameter.grad = None
        if fresh:
            models[self.seen.name].load_state_dict(self.start)
            optimizer.state.clear()
            for group in optimizer.param_groups:
                group["lr"] = max(self.seen.rates, default=group["lr"])
        return Twin(models, self.seen.name, optimizer, self._go_on)

    def _go_on(self) -> None:
        if self.is_broken_off():
            raise BrokenOffError

    def descend(
        self,
        remedy: Remedy | None = None,
        *,
        steps: int = STEPS,
        batches: int = 0,
        fresh: bool = False,
        enough: float = 0.0,
        redrawn: bool = False,
    ) -> list[float]:
        """Train a copy on recorded batches in turns; the loss before each step.

        enough:  the part of the first loss below which it stops.
        batches: how many of the latest batches; 0 takes all.
        fresh:   begin where training began, at the highest rate so far, instead of where it is.
        redrawn: other random draws in each step in place of the recorded ones, which a copy may come to know by heart.
        """
        began = time.thread_time()
        tapes = self.tapes[-batches:]
        losses = []
        with apart():
            twin = self.twin(fresh=fresh)
            twin.model.train()
            if remedy is not None:
                remedy(twin)
            for step in range(steps):
                tape = tapes[step % len(tapes)]
                losses.append(twin.step(tape.redrawn(step) if redrawn else tape))
                if not math.isfinite(losses[-1]):
                    losses += [math.inf] * (steps - step - 1)
                    break
                if losses[-1] < enough * losses[0]:
                    break
        self.seconds += time.thread_time() - began
        return losses

    def race(self, remedy: Remedy, *, steps: int = STEPS, batches: int = 0, fresh: bool = False) -> Race:
        """A copy as it is against one with a remedy, on the same batches; arguments as of `descend`."""
        which = (self.seen.done, steps, batches, fresh)
        if self._plain[0] != which:  # several remedies race against the same copy
            self._plain = which, self.descend(steps=steps, batches=batches, fresh=fresh)
        return Race(self._plain[1], self.descend(remedy, steps=steps, batches=batches, fresh=fresh))

    def held_out(self, remedy: Remedy | None = None, *, steps: int = 4 * STEPS, without_penalty: bool = False) -> float:
        """The least loss on a quarter of the recorded batches while a copy is trained on the others.

        Measured in evaluation mode and without what parameters add to the loss directly, so that copies with another
        dropout or penalty can be compared. With no steps it is the loss as it is now. Infinite with one batch only.

        without_penalty: train without what parameters add to the loss directly, too.
        """
        began = time.thread_time()
        count = max(len(self.tapes) // 4, 1)
        trained, tested = self.tapes[:-count], self.tapes[-count:]
        if without_penalty:
            trained = [tape.without_penalty(self.models) for tape in trained]
        least = math.inf
        with apart():
            twin = self.twin()
            if remedy is not None:
                remedy(twin)
            for step in range(steps if trained else 0):
                if not math.isfinite(twin.step(trained[step % len(trained)])):
                    break
                if step % 10 == 9:
                    least = min(least, _evaluated(twin, tested))
            if not steps:
                least = _evaluated(twin, tested)
        self.seconds += time.thread_time() - began
        return least

    def loss(self, change: Callable[[Tensor], Tensor] | None = None, tape: Tape | None = None) -> float:
        """The loss of the model as it is now on a recorded batch; `change` is done to its inputs first."""
        with apart(), torch.no_grad():
            models = copy.deepcopy(dict(self.models))
            return float(((tape or self.tapes[-1]).play(models, change)).detach())

    def memorises(self, remedy: Remedy | None = None, *, steps: int = 200, enough: float = 0.0) -> float:
        """The part of the loss on one batch that is left when a copy learns nothing else, until `enough` of it is."""
        losses = self.descend(remedy, steps=steps, batches=1, enough=enough)
        return min(losses) / max(losses[0], 1e-12)


def _evaluated(twin: Twin, tapes: list[Tape]) -> float:
    modes = {module: module.training for module in twin.model.modules()}
    twin.model.eval()
    values = []
    with torch.no_grad():
        for tape in tapes:
            twin.go_on()
            values.append(float(tape.without_penalty(twin.models).play(twin.models)))
    for module, training in modes.items():
        module.training = training
    return fmean(values)


class apart:  # noqa: N801  (reads like a function)
    """What happens inside draws no random numbers from the user's generators, and is seen by no watch."""

    depth = 0

    def __enter__(self) -> None:
        apart.depth += 1
        self._random = torch.get_rng_state()
        has_gpus = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._random_on_gpus = torch.cuda.get_rng_state_all() if has_gpus else []
        self._grad = torch.is_grad_enabled()
        torch.set_grad_enabled(True)

    def __exit__(self, *_: object) -> None:
        apart.depth -= 1
        torch.set_grad_enabled(self._grad)
        torch.set_rng_state(self._random)
        if self._random_on_gpus:
            torch.cuda.set_rng_state_all(self._random_on_gpus)
