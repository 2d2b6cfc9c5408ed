"""Rehearsals before training: steps of the real network on its own batches, timed, and then undone.

From them come the plan (how to use the machine) and the number of epochs that fit into a time limit. `plan.py` compares
what is measured here; the trainer lends the steps.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sounding.batches import Batches
from sounding.finding import Finding, Remedy
from sounding.recipe import TrainingRecipe
from sounding.training.distributed import Processes
from sounding.training.history import History
from sounding.training.loop import EpochRecord, Player, StepRecord
from sounding.training.machine import is_out_of_memory, machine_class
from sounding.training.optimizers import other_implementations
from sounding.training.plan import Plan, Rehearsal, Way, candidates, choose_plan, key_of, read_table, write_table
from sounding.training.restoring import copied
from sounding.training.saving import Progress

TRIAL = 0.02
"""Fraction of a time limit spent on measuring how long a step takes."""
MARGIN = 0.95
"""Fraction of a time limit that is planned for: the rest absorbs what the trial did not see."""

Trial = Callable[[Way, int], AbstractContextManager[Iterator[float]]]
"""Goes a way for about so many steps: yields the loss of each as it is done, and undoes them all afterwards."""


@contextmanager
def undone(network: nn.Module, players: Sequence[Player]) -> Iterator[None]:
    """Whatever is trained inside, weights and optimizers are afterwards as they were."""
    weights = copied(network)
    optimizers = [copy.deepcopy(player.optimizer.state_dict()) for player in players]
    norms = [list(player.clipping.recent) if player.clipping else [] for player in players]
    averages = [
        (average, {name: tensor.clone() for name, tensor in average.tensors().items()}, average.values())
        for player in players
        if (average := player.average) is not None
    ]
    try:
        yield
    finally:
        network.load_state_dict(weights)
        for player, state, recent in zip(players, optimizers, norms, strict=True):
            player.optimizer.load_state_dict(state)
            if player.clipping:
                player.clipping.recent[:] = recent
            for parameter in player.network.parameters():
                parameter.grad = None
        for average, tensors, values in averages:
            average.restore(tensors, values)


# How to use the machine.


def rehearsed_plan(
    trial: Trial,
    network: nn.Module,
    batches: Batches,
    recipe: TrainingRecipe,
    device: torch.device,
    *,
    precisions: Sequence[str],
    players: bool,
    own_losses: bool,
    own_optimizer: bool,
) -> Plan:
    """The plan by which this network trains on these batches, from trials of the ways there are.

    precisions:    what may be chosen.
    players:       whether there are several, whose optimizers are built already and whose steps are not compiled.
    own_losses:    whether their losses are the user's: how these compute is not ours to change.
    own_optimizer: whether the optimizer is.
    """
    inputs = next(batches.epoch(0)).inputs
    cores = os.cpu_count() or 1
    plain = Way(threads=recipe.threads or torch.get_num_threads())
    attention = device.type == "cpu" and not players and attends(trial, plain, device)
    ways = candidates(
        plain,
        precisions=() if own_losses else precisions,
        threads=(1, cores) if device.type == "cpu" and not recipe.threads else (),
        pictures=not own_losses and any(x.ndim == 4 for x in inputs),
        attends=attention,
    )
    changes: list[dict[str, Any]] = []
    if attention and set(precisions) <= {"float32"}:
        changes.append({"attention": "plain"})
    if batches.transform is not None and cores > 1:
        changes.append({"workers": 1})
    if not players and not own_optimizer:
        changes += [{"implementation": name} for name in other_implementations(recipe.optimizer)]
    shapes = [(str(x.dtype), *x.shape[1:]) for x in inputs]
    key = key_of(
        machine_class(device), str(network), shapes, batches.batch_size, type(batches).__name__,
        str(recipe.optimizer), recipe.accumulate, [str(way) for way in ways], changes,
    )  # fmt: skip
    try:
        plan = choose_plan(
            lambda way, steps, limit: rehearse(trial, way, steps, limit, device),
            ways,
            steps=recipe.epochs * len(batches),
            changes=changes,
            compiling=not players and not recipe.heal,  # the watch does not see compiled steps
            known=read_table(key),
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Plan(plain, {}, plain, 0.0, ("a batch does not fit into memory: nothing was measured",))
    if plan.table:
        write_table(key, plan.table)
    return plan


def rehearse(trial: Trial, way: Way, steps: int, limit: float, device: torch.device) -> Rehearsal:
    """Some steps of a way, timed; fewer where they take more than `limit` seconds."""
    seconds, losses = list[float](), list[float]()
    with trial(way, steps) as done:
        then, computing = time.perf_counter(), time.process_time()
        for loss in done:
            now = time.perf_counter()
            seconds.append(now - then)
            losses.append(loss)
            then = now
            if len(seconds) >= steps or sum(seconds) > limit:
                break
        computing = time.process_time() - computing
    busy = computing / (sum(seconds) * max(way.threads, 1)) if device.type == "cpu" else 1.0
    return Rehearsal(seconds, losses, busy)


def attends(trial: Trial, plain: Way, device: torch.device) -> bool:
    """Whether the network computes attention by the function of PyTorch that knows several ways."""
    try:
        with _Attention() as attention:
            rehearse(trial, plain, 1, math.inf, device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return bool(attention.asked)


class _Attention(TorchFunctionMode):
    """Notes whether attention is asked for."""

    asked: bool = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.asked |= function in (F.scaled_dot_product_attention, F.multi_head_attention_forward)
        return function(*args, **(kwargs or {}))


# How many epochs fit into the time there is.


def seconds_of_an_epoch(
    trial: Progress,
    records: Callable[[Progress, int], Iterator[StepRecord | EpochRecord]],
    validate: Callable[[Progress], object],
    processes: Processes,
    *,
    began: float,
    limit: float,
    stop_if_asked: Callable[[], None],
) -> float:
    """What an epoch takes, from some steps and a validation; to be called where they are undone.

    records:  trains so many epochs.
    began:    when the trial did, by `time.monotonic`.
    limit:    seconds that there are for the whole training; a small part of them goes into the trial.
    """
    steps: list[tuple[float, int]] = []  # when, and how many steps were done
    for record in records(trial, 1):
        stop_if_asked()
        steps.append((time.monotonic(), trial.position.step))
        (enough,) = processes.any(len(steps) > 5 and steps[-1][0] - began > TRIAL * limit)
        if enough or record.progress == 1.0:
            break
    settled = steps[len(steps) // 4 :]  # the first ones fill caches and allocators
    (start, first), (end, last) = settled[0], settled[-1]
    a_step = (end - start) / (last - first) if last > first else (end - began) / last
    validating = time.monotonic()
    if trial.held_out is not None:
        validate(trial)
    return a_step * len(trial.batches) + time.monotonic() - validating


def cut_epochs(history: History, recipe: TrainingRecipe, an_epoch: float) -> None:
    """Plan as many epochs as fit into what is left of the recipe's time; say so where they are fewer than asked.

    an_epoch:  what one takes, in seconds.
    """
    fitting = int(MARGIN * (recipe.time - history.seconds) / an_epoch)
    history.planned = min(max(fitting, 1), recipe.epochs)
    if history.planned < recipe.epochs:
        history.findings.append(
            Finding(
                rule="epochs-cut",
                severity="info",
                title=f"{history.planned} epochs fit into {recipe.time:.0f} s",
                evidence={"epochs": history.planned, "asked": recipe.epochs, "seconds_each": an_epoch},
                meaning="The learning rate schedule was made for so many epochs; "
                "a repeat with this number and no time limit gives the same result.",
                remedy=Remedy("give more time", {"training.time": math.ceil(recipe.epochs * an_epoch / MARGIN)}),
            )
        )
