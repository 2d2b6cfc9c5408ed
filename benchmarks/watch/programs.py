"""Training loops as people write them around plain PyTorch; a fault is one field that differs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.watch.data import Data, Source

Watched = Callable[[Any, Any], AbstractContextManager[Any]]
"""Given what is trained and its optimizer, the context in which it is trained."""
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How good the trained network is on rows that were held out: the higher the better, 1 at best, never below -1."""

    metric: float

    def __post_init__(self) -> None:
        value = self.metric if math.isfinite(self.metric) else -1.0
        object.__setattr__(self, "metric", min(max(value, -1.0), 1.0))


Run = Callable[[Watched, int], Outcome]
"""A whole training program, to be run under a watch with a seed."""


def unwatched(model: Any, optimizer: Any) -> AbstractContextManager[None]:
    return nullcontext()


# Metrics: of outputs and targets of the held-out rows.


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    if targets.is_floating_point() and targets.shape[-1] > 1:
        targets = targets.argmax(1)
    return float((outputs.argmax(1) == targets).float().mean())


def balanced_accuracy(outputs: Tensor, targets: Tensor) -> float:
    """The mean over classes of the part of it that is found."""
    right = outputs.argmax(1) == targets
    return float(torch.stack([right[targets == one].float().mean() for one in targets.unique()]).mean())


def sign_accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Of one output for two classes, where 0 lies between them."""
    return float(((outputs.flatten() > 0) == (targets.flatten() > 0.5)).float().mean())


def half_accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Of one probability for two classes."""
    return float(((outputs.flatten() > 0.5) == (targets.flatten() > 0.5)).float().mean())


def balanced_sign_accuracy(outputs: Tensor, targets: Tensor) -> float:
    found, truth = outputs.flatten() > 0, targets.flatten() > 0.5
    return float((found[truth].float().mean() + (~found[~truth]).float().mean()) / 2)


def explained(outputs: Tensor, targets: Tensor) -> float:
    """The share of the targets' variance that is explained."""
    rest = (outputs.flatten() - targets.flatten()).square().mean()
    return float(1 - rest / targets.var(correction=0))


def last_place(outputs: Tensor, targets: Tensor) -> float:
    """Accuracy at the end of a text, where nothing of the future can be seen."""
    return float((outputs[..., -1].argmax(1) == targets[:, -1]).float().mean())


# One training step; `number` counts from 0.

Step = Callable[[nn.Module, Optimizer, Loss, Tensor, Tensor, int], None]


def plain(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
    optimizer.zero_grad()
    value = loss(model(x), y)
    value.backward()
    optimizer.step()


def zeroed_last(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
    """As good as the plain one: gradients are zeroed after the step, by the model."""
    value = loss(model(x), y)
    value.backward()
    optimizer.step()
    model.zero_grad(set_to_none=False)


def never_zeroed(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
    loss(model(x), y).backward()
    optimizer.step()


def zeroed_every(steps: int) -> Step:
    """Gradients are zeroed at the beginning of an epoch only."""

    def step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
        if number % steps == 0:
            optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return step


def zeroed_before_step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
    value = loss(model(x), y)
    value.backward()
    optimizer.zero_grad()
    optimizer.step()


def never_stepped(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
    """Backward passes through a value that was taken out of the graph."""
    optimizer.zero_grad()
    value = loss(model(x), y)
    torch.tensor(value.item(), requires_grad=True).backward()
    optimizer.step()


def accumulated(count: int, *, divided: bool = True) -> Step:
    """One update for the gradients of so many batches."""

    def step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
        (loss(model(x), y) / (count if divided else 1)).backward()
        if (number + 1) % count == 0:
            optimizer.step()
            optimizer.zero_grad()

    return step


def clipped(norm: float) -> Step:
    def step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), norm)
        optimizer.step()

    return step


def clipped_values(limit: float) -> Step:
    def step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        nn.utils.clip_grad_value_(model.parameters(), limit)
        optimizer.step()

    return step


def mixed_up(alpha: float, classes: int) -> Step:
    """Zhang et al. 2018: trains on means of two examples."""

    def step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        other, targets = torch.randperm(len(x)), F.one_hot(y, classes).float()
        optimizer.zero_grad()
        mixed = share * targets + (1 - share) * targets[other]
        loss(model(share * x + (1 - share) * x[other]), mixed).backward()
        optimizer.step()

    return step


def augmented(change: Callable[[Tensor], Tensor]) -> Step:
    def step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
        plain(model, optimizer, loss, change(x), y, number)

    return step


def penalised(weight: float, norm: int = 2) -> Step:
    """The loss with a penalty on all weights added."""

    def step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
        optimizer.zero_grad()
        penalty = sum(p.abs().pow(norm).sum() for p in model.parameters())
        (loss(model(x), y) + weight * penalty).backward()
        optimizer.step()

    return step


def in_half(scale: float = 1.0, type_: torch.dtype = torch.float16) -> Step:
    """The network runs and its gradients are formed in half precision; scaling the loss keeps small ones."""

    def step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=type_):
            outputs = model(x)
        (loss(outputs.float(), y) * scale).backward()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.to(type_).float() / scale
        optimizer.step()

    return step


def by_closure(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
    """As LBFGS wants it."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        return value

    optimizer.step(closure)


def averaged_after(decay: float) -> Step:
    """Keeps an average of the weights at the side, as many do for the final model."""
    kept: dict[int, Any] = {}

    def step(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, number: int) -> None:
        if number == 0:
            kept.clear()
            average = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
            kept[0] = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average)
        plain(model, optimizer, loss, x, y, number)
        kept[0].update_parameters(model)

    return step


# The loop around it.


@dataclass(frozen=True, kw_only=True)
class Program:
    """A supervised training program: epochs of batches, each followed by a look at the held-out rows."""

    data: Source
    network: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer]
    loss: Loss = F.cross_entropy
    metric: Callable[[Tensor, Tensor], float] = accuracy
    epochs: int = 6
    batch_size: int = 32
    step: Step = plain
    schedule: Callable[[Optimizer, int, int], LRScheduler] | None = None
    """Given the optimizer, the epochs and the steps of one."""
    scheduled_per_step: bool = False
    shuffles: bool = True
    calls_eval: bool = True
    calls_train: bool = True
    """Whether training mode comes back after validation."""
    validation_batch: int = 128
    loader: bool = False
    """Whether batches come from a `DataLoader`."""
    before: Callable[[nn.Module], nn.Module] = lambda model: model
    """What is done to the network after the optimizer was built: it answers with the one that is trained."""

    def __call__(self, watched: Watched, seed: int) -> Outcome:
        torch.manual_seed(seed)
        data = self.data(seed)
        model = self.network()
        with torch.no_grad():  # lazy layers take their sizes
            model.eval()(data.x[:2])
        optimizer = self.optimizer(model)
        model = self.before(model)
        steps = -(-len(data.x) // self.batch_size)
        scheduler = self.schedule(optimizer, self.epochs, steps) if self.schedule is not None else None
        number = 0
        model.train()
        with watched(model, optimizer):
            for _ in range(self.epochs):
                if self.calls_train:
                    model.train()
                for x, y in self.batches(data):
                    self.step(model, optimizer, self.loss, x, y, number)
                    number += 1
                    if scheduler is not None and self.scheduled_per_step:
                        scheduler.step()
                if scheduler is not None and not self.scheduled_per_step:
                    scheduler.step()
                metric = self.validate(model, data)
        return Outcome(metric)

    def batches(self, data: Data) -> Iterator[tuple[Tensor, Tensor]]:
        if self.loader:
            yield from DataLoader(TensorDataset(data.x, data.y), self.batch_size, shuffle=self.shuffles)
            return
        order = torch.randperm(len(data.x)) if self.shuffles else torch.arange(len(data.x))
        for rows in order.split(self.batch_size):
            yield data.x[rows], data.y[rows]

    def held_batches(self, data: Data) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.arange(len(data.held_x)).split(self.validation_batch):
            yield data.held_x[rows], data.held_y[rows]

    def validate(self, model: nn.Module, data: Data) -> float:
        """The metric on held-out rows; their loss is computed, too, as everybody does."""
        if self.calls_eval:
            model.eval()
        outputs, total = [], 0.0
        with torch.no_grad():
            for x, y in self.held_batches(data):
                outputs.append(model(x))
                total += float(self.loss(outputs[-1], y)) * len(x)
        return self.metric(torch.cat(outputs), data.held_y)


# Optimizers and schedules, as functions of a model and of an optimizer.


def sgd(lr: float, **options: Any) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr, **options)


def adam(lr: float = 1e-3, **options: Any) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.Adam(model.parameters(), lr=lr, **options)


def adamw(lr: float = 1e-3, **options: Any) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.AdamW(model.parameters(), lr=lr, **options)


def optimizer(kind: type[Optimizer], **options: Any) -> Callable[[nn.Module], Optimizer]:
    return lambda model: kind(model.parameters(), **options)


def trainable(kind: type[Optimizer], **options: Any) -> Callable[[nn.Module], Optimizer]:
    """Of those parameters only that are not frozen."""
    return lambda model: kind([p for p in model.parameters() if p.requires_grad], **options)


def cosine(optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)


def cosine_by_step(optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)


def exponential(factor: float) -> Callable[[Optimizer, int, int], LRScheduler]:
    return lambda optimizer, epochs, steps: torch.optim.lr_scheduler.ExponentialLR(optimizer, factor)


def stairs(every: int, factor: float) -> Callable[[Optimizer, int, int], LRScheduler]:
    return lambda optimizer, epochs, steps: torch.optim.lr_scheduler.StepLR(optimizer, every, factor)


def warm_up(part: float = 0.2) -> Callable[[Optimizer, int, int], LRScheduler]:
    """The rate rises from next to nothing through this part of all steps, then falls as a cosine: by step."""

    def schedule(optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
        warm = max(int(part * epochs * steps), 1)

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(epochs * steps - warm, 1)))

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    return schedule


def one_cycle(top: float) -> Callable[[Optimizer, int, int], LRScheduler]:
    return lambda optimizer, epochs, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, top, total_steps=epochs * steps + 1
    )
