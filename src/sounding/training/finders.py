"""Trying things out on a copy before training: which learning rate, which batch size.

The network, its gradients and the default random generators are afterwards as they were.
"""

from __future__ import annotations

import copy
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from sounding.batches import Batch, Batches
from sounding.errors import DivergedError, RecipeError
from sounding.recipe import OptimizerRecipe
from sounding.training.clipping import Clipping
from sounding.training.loop import Player, StepRecord, autocast, moved, train
from sounding.training.losses import Loss, named_loss
from sounding.training.machine import is_out_of_memory
from sounding.training.optimizers import build_optimizer

SMOOTHING = 0.9
"""Decay of the running mean of the losses: about ten steps, less than half a factor of ten of the rate."""
BELOW_LOWEST = 3.0
"""The loss is lowest shortly before it diverges; this many times below is the rate that trains best, in the median of
25 pairs of network and optimizer. Longer training than theirs (8 epochs of small data) prefers a lower one."""
DIVERGED = 4.0
"""Multiple of the lowest smoothed loss beyond which larger rates are not tried."""
FEWEST_STEPS = 20
"""With fewer, the rate would be a guess between points far apart."""
START = 10
"""Steps whose mean loss stands for the untrained network, and whose spread for noise."""
LAST = 3
"""A loss that is lowest within so many steps of the end has not been seen to rise."""
CLEAR = 8.0
"""A fall of the smoothed loss by fewer standard deviations than this could be noise: it reached 5 in 20 networks that
could not learn, and 11 at the least in 25 that could."""
KNEE = 0.9
"""A batch is large enough when it reaches this fraction of the most rows per second of any."""
REPEATS = 3
"""Steps that are timed for each batch size, of which the fastest counts, after one that fills caches."""


@dataclass(frozen=True, slots=True)
class LearningRates:
    """What `find_learning_rate` saw, and what it makes of it."""

    rates: tuple[float, ...]
    """The learning rate of each step."""
    losses: tuple[float, ...]
    """The loss of each step, before its update; all finite."""
    smoothed: tuple[float, ...]
    """Their running mean, corrected for its start."""
    rate: float | None
    """The rate to train with; none where the curve does not tell."""
    reason: str
    """Why this one, or why none, in plain words."""


def find_learning_rate(
    network: nn.Module,
    loss: str | Loss,
    batches: Batches,
    *,
    optimizer: OptimizerRecipe | None = None,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 200,
    clipping: Clipping | None = None,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    seed: int = 0,
) -> LearningRates:
    """A usable peak learning rate, from one short run in which the rate rises by the same factor each step.

    network:    trained as a copy; left as it is.
    loss:       `cross_entropy`, `mse`, or a function of (outputs, target), and of the rows' weights where there are.
    optimizer:  how gradients become updates; its `lr` is not used, the factors in its `rates` are.
    lowest, highest: the first and the last rate, 0 < lowest < highest.
    steps:      how many rates are tried, one step each; fewer if the loss diverges before.
    clipping:   as in the training to come.

    Source: Smith 2017, arXiv:1506.01186, section 3.3.

    Raises:
        RecipeError: if the rates or the number of steps are out of range.

    >>> x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    >>> batches = Batches((x,), x.sum(1), batch_size=32, shuffle=True)
    >>> found = find_learning_rate(nn.Linear(4, 1), "mse", batches, optimizer=OptimizerRecipe(name="sgd"))
    >>> 0.01 < found.rate < 0.5
    True
    >>> find_learning_rate(nn.Linear(4, 1), "mse", batches, highest=1e-6).rate is None
    True
    """
    if not 0.0 < lowest < highest < math.inf:
        raise RecipeError(f"the rates go from {lowest} to {highest}", "give 0 < lowest < highest")
    if steps < 2:
        raise RecipeError(f"the rate cannot rise in {steps} steps", f"give at least {FEWEST_STEPS}")
    device, criterion = torch.device(device), named_loss(loss)
    ramp = [highest * (lowest / highest) ** (1.0 - step / (steps - 1)) for step in range(steps)]
    with _generators_kept(device):
        trained = copy.deepcopy(network).to(device).train()
        player = Player(
            "network",
            trained,
            lambda batch: _loss_of(trained, criterion, batch, precision),
            build_optimizer(trained, replace(optimizer or OptimizerRecipe(), lr=highest)),
            clipping=copy.deepcopy(clipping),
            scaler=GradScaler(device.type, enabled=precision == "float16"),
        )
        losses = _losses_along(ramp, player, batches, device, seed)
    rates, smoothed = ramp[: len(losses)], smooth(losses)
    rate, reason = _usable(rates, losses, smoothed, stopped=len(losses) < steps)
    return LearningRates(tuple(rates), tuple(losses), tuple(smoothed), rate, reason)


@dataclass(frozen=True, slots=True)
class BatchSize:
    """How one batch size did."""

    rows: int
    rows_per_second: float | None
    """Of a whole step; none where it did not fit."""
    peak: int | None
    """Bytes of GPU memory in use at the most; none on a CPU, which does not tell, and where it did not fit."""
    failure: str = ""
    """What was said when memory ran out."""


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """What `find_batch_size` measured, and what it makes of it."""

    table: tuple[BatchSize, ...]
    """Each size that was tried, from small to large."""
    largest: int | None
    """The largest that fits into memory, of those tried; none where nothing did."""
    efficient: int | None
    """The smallest that is about as fast, row by row, as the fastest: larger ones only make fewer steps of an epoch."""
    reason: str
    """Where the trying ended and why, in plain words."""


def find_batch_size(
    network: nn.Module,
    loss: str | Loss,
    batches: Batches,
    *,
    optimizer: OptimizerRecipe | None = None,
    limit: int = 65_536,
    seconds: float = 20.0,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> BatchSizes:
    """Which batches fit into memory, and how many rows a second each size trains: powers of two, from 2 on.

    network:    a copy does whole steps (forward, backward, update) at a learning rate of zero.
    batches:    the rows of the first one are repeated as often as needed, so a gather is part of each step.
    limit:      no larger batch is tried, nor one larger than there are rows.
    seconds:    after so many no further size is begun.

    Other programs change what is measured: memory that they free later is not found, and their load slows a size.

    Raises:
        RecipeError: if there are fewer than two rows, or the limit is below two.

    >>> found = find_batch_size(nn.Linear(4, 1), "mse", Batches((torch.randn(300, 4),), torch.randn(300), batch_size=1))
    >>> [row.rows for row in found.table], found.largest
    ([2, 4, 8, 16, 32, 64, 128, 256], 256)
    """
    most = min(limit, batches.rows)
    if most < 2:
        raise RecipeError(f"there are {batches.rows} rows and the limit is {limit}", "give at least 2 of both")
    device, criterion, began = torch.device(device), named_loss(loss), time.perf_counter()
    table: list[BatchSize] = []
    reason = f"up to the largest power of two within {batches.rows} rows and a limit of {limit}"
    with _generators_kept(device):
        trained = copy.deepcopy(network).to(device).train()
        updates = build_optimizer(trained, replace(optimizer or OptimizerRecipe(), lr=0.0))
        example = next(batches.epoch(0))

        def step(batch: Batch) -> None:
            updates.zero_grad(set_to_none=True)
            _loss_of(trained, criterion, moved(batch, device), precision).backward()  # type: ignore[no-untyped-call]
            updates.step()

        for rows in (2**power for power in range(1, most.bit_length())):
            if table and time.perf_counter() - began > seconds:
                reason = f"{seconds:g} seconds were over before a batch of {rows}"
                break
            table.append(_measure(step, example, rows, device))
            updates.zero_grad(set_to_none=True)
            if table[-1].failure:
                reason = f"a batch of {rows} does not fit into memory"
                break
    fitting = [row for row in table if not row.failure]
    return BatchSizes(tuple(table), fitting[-1].rows if fitting else None, _efficient(fitting), reason)


def smooth(losses: Sequence[float]) -> list[float]:
    """The running mean of losses, each point corrected for the few before it (as Kingma and Ba 2015, section 3).

    >>> [round(value, 3) for value in smooth([1.0, 1.0, 3.0])]
    [1.0, 1.0, 1.738]
    """
    mean, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss
        smoothed.append(mean / (1.0 - SMOOTHING**count))
    return smoothed


def _losses_along(
    ramp: Sequence[float], player: Player, batches: Batches, device: torch.device, seed: int
) -> list[float]:
    """The losses of one step at each rate, until one is not finite or the loss has diverged."""
    epochs = math.ceil(len(ramp) / len(batches))
    steps = epochs * len(batches)  # the ramp may end within an epoch
    player = replace(player, schedule=lambda done: ramp[min(round(done * steps), len(ramp) - 1)] / ramp[-1])
    losses: list[float] = []
    with suppress(DivergedError):
        for record in train([player], batches, epochs=epochs, seed=seed, device=device):
            if isinstance(record, StepRecord):
                if not math.isfinite(record.loss):
                    break
                losses.append(record.loss)
                if len(losses) == len(ramp) or _has_diverged(losses):
                    break
    return losses


def _has_diverged(losses: Sequence[float]) -> bool:
    smoothed = smooth(losses)
    return len(losses) > START and smoothed[-1] > DIVERGED * min(smoothed) > 0.0


def _usable(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], *, stopped: bool
) -> tuple[float | None, str]:
    """The rate to train with and why, or none and why not; `stopped` where the loss diverged before the last rate."""
    if not losses:
        return None, "the loss is not finite at once: look for infinite or missing numbers in inputs and target"
    if len(losses) < FEWEST_STEPS:
        if stopped:
            return None, f"the loss diverges after {len(losses)} steps, at {rates[-1]:.2g}: give a lower lowest rate"
        return None, f"{len(losses)} steps are too few to tell: give at least {FEWEST_STEPS}"
    start = statistics.fmean(losses[:START])
    at = min(range(START, len(losses)), key=smoothed.__getitem__)
    course = f"from {start:.4g} to {smoothed[at]:.4g} at {rates[at]:.2g}"
    if start - smoothed[at] <= CLEAR * _noise(losses):
        why = f"the loss does not fall clearly, its noise considered ({course}): "
        return None, why + "give a wider range of rates, or see whether the network can learn this at all"
    if at >= len(losses) - LAST and not stopped:
        return None, f"the loss still falls at the end ({course}): give a higher highest rate"
    rate = rates[at] / BELOW_LOWEST
    if rate < rates[0]:
        return None, f"the loss is lowest almost at once ({course}): give a lower lowest rate"
    return float(f"{rate:.2g}"), f"the loss falls {course}, and rises beyond; this is a third of that rate"


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation of the smoothed loss, from how the first losses differ from one to the next."""
    first = losses[: max(len(losses) // 4, START)]
    variance = statistics.fmean((b - a) ** 2 for a, b in itertools.pairwise(first)) / 2
    rounding = 1e-6 * abs(first[0])
    return math.sqrt(variance * (1.0 - SMOOTHING) / (1.0 + SMOOTHING)) + rounding


def _loss_of(network: nn.Module, loss: Loss, batch: Batch, precision: str) -> Tensor:
    with autocast(batch.inputs[0].device, precision):
        outputs: Tensor = network(*batch.inputs)
    weight = () if batch.weight is None else (batch.weight,)
    return loss(outputs.float(), batch.target, *weight)


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    """The default generators as before afterwards, on the CPU and on the device."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _measure(step: Callable[[Batch], None], example: Batch, rows: int, device: torch.device) -> BatchSize:
    """Do some steps of one size, and say how they went."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    fastest = math.inf
    for _ in range(1 + REPEATS):
        began = time.perf_counter()
        if failure := _failure(lambda: step(_repeated(example, rows))):
            return BatchSize(rows, None, None, failure)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return BatchSize(rows, rows / fastest, peak)


def _failure(work: Callable[[], None]) -> str:
    """Do some work; what was said when memory ran out, or nothing. Any other error goes its way."""
    try:
        work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return _first_line(error)
    return ""


def _repeated(batch: Batch, rows: int) -> Batch:
    """As many rows as are asked for, those of a batch again and again."""
    chosen = torch.arange(rows, device=batch.inputs[0].device) % len(batch.inputs[0])
    return Batch(
        tuple(tensor.index_select(0, chosen) for tensor in batch.inputs),
        None if batch.target is None else batch.target.index_select(0, chosen),
        None if batch.weight is None else batch.weight.index_select(0, chosen),
        batch.rows[chosen.to(batch.rows.device)],
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _efficient(fitting: Sequence[BatchSize]) -> int | None:
    """The smallest size close to the most rows per second."""
    speeds = {row.rows: row.rows_per_second or 0.0 for row in fitting}
    return next((rows for rows, speed in speeds.items() if speed >= KNEE * max(speeds.values())), None)
