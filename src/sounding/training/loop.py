"""The training loop: batch, forward, loss, backward, clip, step, record.

Everything else (saving, stopping early, showing progress) reads the records that come out and cannot change a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from sounding.batches import Batch, Batches
from sounding.errors import DivergedError
from sounding.randomness import draw_seed
from sounding.training.clipping import Clipping
from sounding.training.distributed import Processes
from sounding.training.schedules import Schedule, constant
from sounding.training.transfer import Release

SMALLEST_SCALE = 2.0**-14
"""A loss that overflows float16 even at this scale is not a matter of scale."""


class Average(Protocol):
    """A running average of weights."""

    updates: int
    """How many states of the weights are in it."""

    def applied_to(self, network: nn.Module) -> AbstractContextManager[None]:
        """The network has the averaged weights for a while."""

    def update(self) -> object:
        """Take the weights of now in."""

    def tensors(self) -> Mapping[str, Tensor]:
        """What a checkpoint has to hold of it."""

    def values(self) -> dict[str, Any]:
        """The same, for what is no tensor."""

    def restore(self, tensors: Mapping[str, Tensor], values: dict[str, Any]) -> None:
        """Become what was saved."""


@dataclass(frozen=True, slots=True)
class Player:
    """A set of parameters with its own loss and optimizer: one in most tasks, two in a GAN."""

    name: str
    network: nn.Module
    """The module whose parameters the optimizer updates."""
    loss: Callable[[Batch], Tensor]
    """The forward pass and the loss of a batch: a scalar, the mean over its rows."""
    optimizer: Optimizer
    schedule: Schedule = constant
    clipping: Clipping | None = None
    """What is done to gradients that are too large; none leaves them as they are, and unmeasured."""
    parts: int = 1
    """The batch passes in so many parts whose gradients are added up: the step is that of the whole batch."""
    units: Callable[[Batch], float] | None = None
    """What the loss is the mean over, such as tokens, in a batch; none counts rows, by their weights where there are
    some. Parts of a batch are weighted by it."""
    scaler: GradScaler = field(default_factory=lambda: GradScaler("cpu", enabled=False))
    """Scales the loss up before the backward pass and the gradients down after it; float16 needs one that is enabled.
    It leaves an update out whose gradients overflowed, and scales less from there."""
    average: Average | None = None
    """A running average of the weights; it follows each update and changes none."""
    release: Release | None = None
    """Freezes layers that are to be trained later; none trains all from the start."""

    def split(self, batch: Batch, processes: Processes, rows: int) -> Iterator[tuple[Batch, float]]:
        """The parts of a batch, and the share that each has in the loss of the whole.

        rows: those of the whole batch, where this is the share of one of several processes.
        """
        if self.parts == 1 and processes.count == 1:
            yield batch, 1.0
            return
        units = self.units or units_of
        whole = processes.total(units(batch) if len(batch.rows) else 0.0)
        if not len(batch.rows):
            yield batch, 0.0
            return
        parts = min(self.parts, max(rows // processes.count // 2, 1))  # of two rows at least; as many in each process
        for number, places in enumerate(torch.arange(len(batch.rows)).tensor_split(parts), start=1):
            part = part_of(batch, slice(int(places[0]), int(places[-1]) + 1))
            with nullcontext() if number == parts else processes.later():
                yield part, units(part) / whole


class StepRecord(NamedTuple):
    """What one player did in one step."""

    epoch: int
    step: int
    """Within the epoch, from 0."""
    player: str
    loss: float
    gradient_norm: float | None
    """Before clipping; none where nothing is clipped and so nothing is measured."""
    learning_rate: float
    """Of the first parameter group."""
    rows: Tensor
    """(B,) int64: the rows of the batch, or of this process's share of it."""
    progress: float
    """Fraction of all steps done, this one included."""

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are numbers to go on with."""
        return math.isfinite(self.loss) and (self.gradient_norm is None or math.isfinite(self.gradient_norm))


class _Unread(NamedTuple):
    """A step record whose numbers may still be on their way from the GPU."""

    epoch: int
    step: int
    player: str
    loss: Tensor
    gradient_norm: Tensor | None
    learning_rate: float
    rows: Tensor
    progress: float

    def read(self) -> StepRecord:
        norm = None if self.gradient_norm is None else self.gradient_norm.item()
        where = (self.epoch, self.step, self.player)
        return StepRecord(*where, self.loss.item(), norm, self.learning_rate, self.rows, self.progress)


class EpochRecord(NamedTuple):
    """What came out of one epoch."""

    epoch: int
    losses: dict[str, float]
    """By player: the mean over all rows of the epoch, measured while they were trained on."""
    validation: dict[str, float]
    """What was measured after the epoch on rows that are not trained on."""
    learning_rate: float
    """Of the first player's first parameter group, in the last step."""
    seconds: float
    """Of training and validation; of the part since the start, in an epoch that was resumed."""
    progress: float
    """Fraction of all steps done."""

    @property
    def train_loss(self) -> float:
        """The mean loss of the first player."""
        return next(iter(self.losses.values()))


@dataclass(slots=True)
class Position:
    """Where training stands: all that is needed, beside weights and optimizer states, to go on from there."""

    epoch: int = 0
    step: int = 0
    """Steps done in this epoch."""
    rows: int = 0
    """Rows trained on in this epoch."""
    totals: dict[str, float] = field(default_factory=dict)
    """By player: the sum of loss times rows in this epoch."""


def train(
    players: Sequence[Player],
    batches: Batches,
    *,
    epochs: int,
    seed: int = 0,
    position: Position | None = None,
    validate: Callable[[int], dict[str, float]] | None = None,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    read_every: int = 1,
    processes: Processes | None = None,
) -> Iterator[StepRecord | EpochRecord]:
    """Train, one record at a time; whoever iterates may stop whenever it likes.

    players:     trained one after the other on each batch.
    position:    where to start; kept up to date, and true whenever a record comes out.
    validate:    measures after each epoch; called with the epoch.
    device:      where the networks are; batches are moved there.
    precision:   `bfloat16` and `float16` run the forward pass under autocast.
    read_every:  steps between readings of the loss. Reading makes the CPU wait for the GPU; records then come
                 several at a time, and a loss that is not finite is noticed up to so many updates late.
    processes:   those that train together, each on its share of the batches; losses are those of all of them.

    Raises:
        DivergedError: when a loss or gradient is not finite, before the update is made and after the record of
            the step came out.

    >>> network = nn.Linear(1, 1)
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> player = Player("fit", network, lambda batch: (network(batch.inputs[0]) - 3 * batch.inputs[0]).square().mean(),
    ...                 torch.optim.SGD(network.parameters(), lr=0.5))
    >>> records = list(train([player], Batches((x,), batch_size=64), epochs=50))
    >>> round(network.weight.item(), 3)
    3.0
    """
    position = position if position is not None else Position()
    device = torch.device(device)
    processes = processes if processes is not None else Processes()
    steps = len(batches)
    parameters = {player.name: list(player.network.parameters()) for player in players}
    unread: list[_Unread] = []

    while position.epoch < epochs:
        epoch, began = position.epoch, time.perf_counter()
        for batch in processes.filled(batches, epoch, start_step=position.step):
            if device.type != "cpu":
                batch = moved(batch, device)
            step, done, records = position.step, epoch * steps + position.step, []
            reading = (step + 1) % read_every == 0 or step + 1 == steps
            for player in players:
                _reseed(draw_seed(seed, epoch, step, player.name, "network", *processes.place), device)
                rate = _set_rate(player, done / (epochs * steps))
                if player.release is not None:
                    player.release(done / (epochs * steps))
                for parameter in parameters[player.name]:  # another player's loss may have left gradients, too
                    parameter.grad = None
                parts: list[Tensor] = []
                for part, share in player.split(batch, processes, batches.rows_in(step)):
                    with autocast(device, precision):
                        loss = player.loss(part)
                    if share != 1.0:
                        loss = share * loss
                    player.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                    parts.append(loss.detach())
                loss = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
                processes.sum_gradients(parameters[player.name])
                player.scaler.unscale_(player.optimizer)
                norm = None if player.clipping is None else player.clipping(parameters[player.name])
                finished = (done + 1) / (epochs * steps)
                unread.append(_Unread(epoch, step, player.name, loss, norm, rate, batch.rows, finished))
                if reading:
                    records += _read(unread, processes)  # here the CPU waits for the GPU
                    unread.clear()
                    if bad := next((record for record in records if _is_lost(record, player)), None):
                        yield from records
                        raise _diverged(bad)
                player.scaler.step(player.optimizer)
                player.scaler.update()
                if player.average is not None:
                    player.average.update()

            position.step += 1
            position.rows += batches.rows_in(step)
            for record in records:
                total = position.totals.get(record.player, 0.0)
                position.totals[record.player] = total + record.loss * batches.rows_in(record.step)
            yield from records

        _reseed(draw_seed(seed, epoch, "validation"), device)
        measured = validate(epoch) if validate is not None else {}
        losses = {name: total / position.rows for name, total in position.totals.items()}
        position.epoch, position.step, position.rows, position.totals = epoch + 1, 0, 0, {}
        seconds = time.perf_counter() - began
        last_rate = _set_rate(players[0], (epoch * steps + steps - 1) / (epochs * steps))
        yield EpochRecord(epoch, losses, measured, last_rate, seconds, (epoch + 1) / epochs)


def _read(unread: Sequence[_Unread], processes: Processes) -> list[StepRecord]:
    """The records of some steps, their losses added up over the shares."""
    if processes.count > 1:
        losses = processes.sum(torch.stack([record.loss for record in unread]))
        unread = [record._replace(loss=loss) for record, loss in zip(unread, losses, strict=True)]
    return [record.read() for record in unread]


def _set_rate(player: Player, progress: float) -> float:
    """Set each group's learning rate to what the schedule makes of its peak; answer with the first."""
    factor = player.schedule(progress)
    for group in player.optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
    return float(player.optimizer.param_groups[0]["lr"])


def _reseed(seed: int, device: torch.device) -> None:
    """Make what the network draws next (dropout) a function of the seed; `torch.manual_seed` takes 70 times as long."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = device.index if device.index is not None else torch.cuda.current_device()
        torch.cuda.default_generators[index].manual_seed(seed)


def _is_lost(record: StepRecord, player: Player) -> bool:
    """Whether going on makes no sense; with a scaler, a gradient that overflows is no more than a step left out."""
    if player.scaler.is_enabled() and math.isfinite(record.loss):
        return player.scaler.get_scale() < SMALLEST_SCALE
    return not record.is_finite


def units_of(batch: Batch) -> float:
    """What a loss is the mean over: rows, by their weights where there are some."""
    return float(len(batch.rows) if batch.weight is None else batch.weight.sum())


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context of a forward pass in a precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def part_of(batch: Batch, rows: slice) -> Batch:
    """Some consecutive rows of a batch."""
    return Batch(
        tuple(tensor[rows] for tensor in batch.inputs),
        None if batch.target is None else batch.target[rows],
        None if batch.weight is None else batch.weight[rows],
        batch.rows[rows],
    )


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device; the numbers of its rows stay where they are."""
    return Batch(
        tuple(tensor.to(device, non_blocking=True) for tensor in batch.inputs),
        None if batch.target is None else batch.target.to(device, non_blocking=True),
        None if batch.weight is None else batch.weight.to(device, non_blocking=True),
        batch.rows,
    )


def _diverged(record: StepRecord) -> DivergedError:
    what, value = ("loss", record.loss) if not math.isfinite(record.loss) else ("gradient norm", record.gradient_norm)
    whose = f"the {what}" if record.player == "network" else f'the {what} of "{record.player}"'
    return DivergedError(
        f"{whose} became {value} in epoch {record.epoch + 1}, step {record.step + 1}, "
        f"at a learning rate of {record.learning_rate:.3g}",
        f"try a learning rate of {record.learning_rate / 10:.1g}, "
        "and look for infinite or missing numbers in inputs and target",
    )
