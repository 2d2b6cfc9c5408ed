"""Train any module: early stopping, checkpoints, resuming, Ctrl-C and progress around the loop in `loop.py`."""

from __future__ import annotations

import copy
import math
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sounding.batches import Batch, Batches
from sounding.errors import DamagedError, DataError, InterruptedRunError, RecipeError, nearest
from sounding.finding import Finding, Remedy
from sounding.recipe import TrainingRecipe
from sounding.training.checkpoint import (
    check_tensors,
    load_newest,
    optimizer_from_tensors,
    optimizer_to_tensors,
    save,
)
from sounding.training.interruption import Signals, StopRequested
from sounding.training.loop import EpochRecord, Player, Position, StepRecord, autocast, moved, train
from sounding.training.losses import Loss, named_loss
from sounding.training.optimizers import build_optimizer
from sounding.training.progress import ProgressBar
from sounding.training.schedules import Schedule, build_schedule

Array = Tensor | np.ndarray[Any, Any]
Rows = Array | tuple[Array, ...]
Metrics = Callable[[Tensor, Tensor], Mapping[str, float]]
Onlooker = Callable[[StepRecord | EpochRecord], object]

PRECISIONS = get_args(get_type_hints(TrainingRecipe)["precision"])
READ_EVERY_ON_GPU = 10
"""Steps between readings of the loss on a GPU, where each reading makes the CPU wait."""
TRIAL = 0.02
"""Fraction of a time limit spent on measuring how long a step takes."""
MARGIN = 0.95
"""Fraction of a time limit that is planned for: the rest absorbs what the trial did not see."""
OVERTIME = 1.25
"""Multiple of a time limit after which training ends even though its schedule has not."""
EVALUATION_FACTOR = 4
"""Evaluation keeps no activations for a backward pass, so its batches can be larger by this factor."""


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

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.epochs)

    def __getitem__(self, index: int) -> EpochRecord:
        return self.epochs[index]


class Trainer:
    """Trains a network, or several players, on batches.

    network:    any module; called with the inputs of a batch.
    loss:       `cross_entropy` (outputs (B, C), target (B,) classes or (B, C) probabilities), `mse`, or any
                function of (outputs, target), and of the rows' weights as a third where batches carry them.
                Always computed in float32. Used for validation, too.
    players:    instead of network and loss: several sets of parameters, each with its own.
    optimizer:  a name from `OPTIMIZERS`, an optimizer, or a function from a network to one.
    recipe:     the settings; the keywords `lr` to `device` overrule it, and mean what `TrainingRecipe` says.
    metrics:    a function of all validation outputs and targets, to a dictionary of numbers.
    monitor:    the validation value by which the best epoch is chosen. With a `patience`, training stops so many
                epochs after the best one and the network ends with its weights; without, with those of the end.
    maximize:   whether a larger monitored value is better.
    checkpoints: a folder; needed to go on after an interruption.
    onlookers:  called with every `StepRecord` and `EpochRecord`.
    progress:   whether to show progress on standard error.

    >>> network = nn.Linear(2, 2)
    >>> x = torch.randn(200, 2)
    >>> trainer = Trainer(network, lr=0.1, epochs=20, batch_size=50, progress=False)
    >>> history = trainer.fit((x, (x[:, 0] > 0).long()))
    >>> len(history), history[-1].train_loss < history[0].train_loss
    (20, True)
    >>> trainer.predict(x).shape
    torch.Size([200, 2])
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        *,
        loss: str | Loss = "cross_entropy",
        players: Sequence[Player] | None = None,
        optimizer: str | Optimizer | Callable[[nn.Module], Optimizer] | None = None,
        recipe: TrainingRecipe | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        epochs: int | None = None,
        time: float | None = None,
        batch_size: int | None = None,
        schedule: str | Schedule | None = None,
        warmup: float | None = None,
        clip_norm: float | None = None,
        patience: int | None = None,
        precision: str | None = None,
        channels_last: bool | None = None,
        threads: int | None = None,
        device: str | None = None,
        seed: int = 0,
        metrics: Metrics | None = None,
        monitor: str = "loss",
        maximize: bool = False,
        checkpoints: str | Path | None = None,
        onlookers: Sequence[Onlooker] = (),
        progress: bool = True,
    ) -> None:
        if (network is None) == (players is None):
            raise RecipeError("a trainer needs a network, or players", "give one of the two")
        recipe = replace(
            recipe if recipe is not None else TrainingRecipe(),
            **_given(
                epochs=epochs,
                time=time,
                batch_size=batch_size,
                schedule=schedule if isinstance(schedule, str) else None,
                warmup=warmup,
                clip_norm=clip_norm,
                patience=patience,
                precision=precision,
                channels_last=channels_last,
                threads=threads,
                device=device,
            ),
        )
        if recipe.precision not in PRECISIONS:
            raise RecipeError(f'there is no precision "{recipe.precision}"', nearest(recipe.precision, PRECISIONS))
        if recipe.epochs < 1 or recipe.batch_size < 1:
            raise RecipeError(
                f"epochs is {recipe.epochs} and batch_size {recipe.batch_size}", "give at least 1 of both"
            )
        name = optimizer if isinstance(optimizer, str) else None
        recipe.optimizer = replace(recipe.optimizer, **_given(name=name, lr=lr, weight_decay=weight_decay))

        self.recipe, self.seed, self.monitor, self.maximize = recipe, seed, monitor, maximize
        self.device = find_device(recipe.device)
        self.network = network if network is not None else nn.ModuleDict({p.name: p.network for p in players or ()})
        self.checkpoints = Path(checkpoints) if checkpoints is not None else None
        self._loss = named_loss(loss)
        self._players = players
        self._optimizer = optimizer
        self._own_schedule = callable(schedule)
        self._schedule = schedule if callable(schedule) else build_schedule(recipe.schedule, warmup=recipe.warmup)
        self._metrics, self._onlookers, self._progress = metrics, tuple(onlookers), progress
        self._signals = Signals()

    def fit(
        self,
        data: Batches | tuple[Rows, Array],
        validation: Batches | tuple[Rows, Array] | None = None,
        *,
        resume: bool = False,
    ) -> History:
        """Train to the end, or until it stops getting better.

        data:        batches, or (inputs, target): tensors or arrays of N rows, or a tuple of them as inputs.
        validation:  rows by which the best epoch is chosen.
        resume:      go on from the newest whole checkpoint, and end in the same bits as a run left alone; starts
                     from the beginning if there is none.

        Raises:
            DivergedError: when the loss is no longer finite.
            InterruptedRunError: after Ctrl-C or SIGTERM, when the step is finished and a checkpoint is saved.
            RecipeError: if the run to resume was started with other settings.
            DamagedError: if every checkpoint is damaged, or belongs to another network.
        """
        batches = self._batches(data, shuffle=True)
        held_out = None if validation is None else self._batches(validation, shuffle=False)
        with self._machine(), Signals() as self._signals:
            self._place_network()
            self.network.train()
            run = _Run(self._build_players(), batches, held_out, History(planned=self.recipe.epochs))
            if self.recipe.batch_size > batches.rows:
                run.history.findings.append(
                    Finding(
                        rule="batch-larger-than-data",
                        severity="info",
                        title=f"all {batches.rows} rows are one batch: fewer than {self.recipe.batch_size}",
                        evidence={"rows": batches.rows, "batch_size": self.recipe.batch_size},
                    )
                )
            try:
                if not (resume and self._restore(run)) and self.recipe.time > 0:
                    self._plan_epochs(run)
                self._train(run)
            except StopRequested:
                raise self._save_and_explain(run) from None
            if run.best and self.recipe.patience > 0:
                self.network.load_state_dict(run.best)
        return run.history

    def predict(self, inputs: Rows) -> Tensor:
        """The network's outputs for N rows, on the CPU, in float32; modules are left in the mode they were in."""
        batches = self._batches((inputs, None), shuffle=False)
        with self._machine(), evaluating(self.network), torch.no_grad():
            self._place_network()
            return torch.cat([self._forward(moved(batch, self.device)).cpu() for batch in batches.epoch(0)])

    def _train(self, run: _Run) -> None:
        """Turn records into history, checkpoints and an ending."""
        history, began, saved = run.history, time.monotonic() - run.history.seconds, time.monotonic()
        over = ending = self._ending(history)
        records = self._records(run, history.planned, run.position)
        with self._shown(history.planned) as onlookers:
            while not ending and (record := next(records, None)) is not None:
                history.seconds = time.monotonic() - began
                if isinstance(record, EpochRecord):
                    self._note(run, record)
                    ending = self._ending(history)
                for onlooker in onlookers:
                    onlooker(record)
                self._signals.check()
                if self.checkpoints is not None and time.monotonic() - saved > self.recipe.checkpoint_every:
                    self._save(run)
                    saved = time.monotonic()
        history.ending = ending
        if not over:
            self._save(run)

    def _records(self, run: _Run, epochs: int, position: Position) -> Iterator[StepRecord | EpochRecord]:
        return train(
            run.players,
            run.batches,
            epochs=epochs,
            seed=self.seed,
            position=position,
            validate=None if run.held_out is None else lambda epoch: self._validate(run),
            device=self.device,
            precision=self.recipe.precision if self._players is not None else "float32",  # else: see _forward
            read_every=1 if self.device.type == "cpu" else READ_EVERY_ON_GPU,
        )

    def _note(self, run: _Run, record: EpochRecord) -> None:
        """Add an epoch to the history, and keep its weights if it is the best one so far."""
        history = run.history
        history.epochs.append(record)
        if not record.validation:
            return
        if self.monitor not in record.validation:
            known = nearest(self.monitor, record.validation)
            raise RecipeError(f'"{self.monitor}" is not measured, so it cannot be monitored', known)
        sign = -1.0 if self.maximize else 1.0
        value = sign * record.validation[self.monitor]
        if math.isfinite(value) and (
            history.best is None or value < sign * history[history.best].validation[self.monitor]
        ):
            history.best = record.epoch
            run.best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def _ending(self, history: History) -> str:
        """Why training is over, in plain words; empty while it is not."""
        done, patience, limit = len(history), self.recipe.patience, self.recipe.time
        if done >= history.planned:
            return f"all {history.planned} epochs are done"
        if patience and history.best is not None and done - 1 - history.best >= patience:
            return f"no better {self.monitor} for {patience} epochs after epoch {history.best + 1}"
        if limit and history.seconds > limit * OVERTIME:
            return f"{history.seconds:.0f} s have passed, more than the limit of {limit:.0f} s"
        return ""

    # The arithmetic of one batch.

    def _forward(self, batch: Batch) -> Tensor:
        inputs = batch.inputs
        if self.recipe.channels_last:
            inputs = tuple(t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for t in inputs)
        with autocast(self.device, self.recipe.precision):
            outputs: Tensor = self.network(*inputs)
        return outputs.float()  # sums of a loss in bfloat16 would lose all but two digits

    def _loss_from(self, outputs: Tensor, batch: Batch) -> Tensor:
        if batch.weight is not None:
            return self._loss(outputs, batch.target, batch.weight)
        return self._loss(outputs, batch.target)

    def _loss_of(self, batch: Batch) -> Tensor:
        return self._loss_from(self._forward(batch), batch)

    def _validate(self, run: _Run) -> dict[str, float]:
        """The mean loss over the rows that are held out, and the metrics; stops early when asked to stop."""
        assert run.held_out is not None
        totals, shares = dict[str, float](), 0.0
        kept: list[tuple[Tensor, Tensor]] = []
        with evaluating(self.network), torch.no_grad():
            for batch in run.held_out.epoch(0):
                batch = moved(batch, self.device)
                if self._players is not None:
                    losses = {player.name: player.loss(batch) for player in run.players}
                else:
                    outputs = self._forward(batch)
                    losses = {"network": self._loss_from(outputs, batch)}
                    if self._metrics is not None and batch.target is not None:
                        kept.append((outputs, batch.target))
                share = len(batch.rows) if batch.weight is None else batch.weight.sum().item()
                shares += share
                for name, loss in losses.items():
                    totals[name] = totals.get(name, 0.0) + loss.item() * share
                self._signals.check()
            means = {name: total / shares for name, total in totals.items()}
            named = {f"loss_{name}": mean for name, mean in means.items()} if len(means) > 1 else {}
            measured = {}
            if self._metrics is not None and kept:
                outputs, target = (torch.cat(parts) for parts in zip(*kept, strict=True))
                measured = {name: float(value) for name, value in self._metrics(outputs, target).items()}
        return {"loss": next(iter(means.values())), **named, **measured}

    # Setting up.

    def _batches(self, data: Batches | tuple[Rows, Array | None], *, shuffle: bool) -> Batches:
        if not isinstance(data, Batches):
            inputs, target = data
            size = self.recipe.batch_size if shuffle else EVALUATION_FACTOR * self.recipe.batch_size
            goals = None if target is None else _tensors(target)[0]
            data = Batches(_tensors(inputs), goals, batch_size=size, seed=self.seed, shuffle=shuffle)
        if data.rows == 0:
            raise DataError("there are no rows", "give at least one")
        return self._resident(data)

    def _resident(self, batches: Batches) -> Batches:
        """The same batches, their rows on the GPU where half of its free memory holds them: gathers are quick there."""
        tensors = [t for t in (*batches.inputs, batches.target, batches.weight) if t is not None]
        if self.device.type != "cuda" or all(tensor.device == self.device for tensor in tensors):
            return batches
        if sum(tensor.nbytes for tensor in tensors) > torch.cuda.mem_get_info(self.device)[0] / 2:
            return batches
        there = copy.copy(batches)
        there.inputs = tuple(tensor.to(self.device) for tensor in batches.inputs)
        there.target = None if batches.target is None else batches.target.to(self.device)
        there.weight = None if batches.weight is None else batches.weight.to(self.device)
        return there

    def _place_network(self) -> None:
        self.network.to(self.device)
        if self.recipe.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _build_players(self) -> Sequence[Player]:
        if self._players is not None:
            return self._players
        if isinstance(self._optimizer, Optimizer):
            optimizer = self._optimizer
        elif callable(self._optimizer):
            optimizer = self._optimizer(self.network)
        else:
            optimizer = build_optimizer(self.network, self.recipe.optimizer)
        return [Player("network", self.network, self._loss_of, optimizer, self._schedule, self.recipe.clip_norm)]

    @contextmanager
    def _machine(self) -> Iterator[None]:
        """The thread count of the recipe and generators that are free to reseed; both as before afterwards."""
        threads = torch.get_num_threads()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            if self.recipe.threads:
                torch.set_num_threads(self.recipe.threads)
            try:
                yield
            finally:
                torch.set_num_threads(threads)

    @contextmanager
    def _shown(self, epochs: int) -> Iterator[tuple[Onlooker, ...]]:
        if not self._progress:
            yield self._onlookers
            return
        with ProgressBar(epochs) as bar:
            yield (*self._onlookers, bar)

    def _plan_epochs(self, run: _Run) -> None:
        """Cut the epochs to the time there is, by some steps and a validation that are then undone."""
        began = time.monotonic()
        weights = copy.deepcopy(self.network.state_dict())
        optimizers = [copy.deepcopy(player.optimizer.state_dict()) for player in run.players]
        trial = _Run(run.players, run.batches, None, History())
        steps: list[tuple[float, int]] = []  # when, and how many steps were done
        try:
            for record in self._records(trial, 1, trial.position):
                self._signals.check()
                steps.append((time.monotonic(), trial.position.step))
                enough = len(steps) > 5 and steps[-1][0] - began > TRIAL * self.recipe.time
                if enough or record.progress == 1.0:
                    break
            settled = steps[len(steps) // 4 :]  # the first ones fill caches and allocators
            (start, first), (end, last) = settled[0], settled[-1]
            a_step = (end - start) / (last - first) if last > first else (end - began) / last
            validating = time.monotonic()
            if run.held_out is not None:
                self._validate(run)
            an_epoch = a_step * len(run.batches) + time.monotonic() - validating
        finally:
            self.network.load_state_dict(weights)
            for player, state in zip(run.players, optimizers, strict=True):
                player.optimizer.load_state_dict(state)

        run.history.seconds = time.monotonic() - began
        fitting = int(MARGIN * (self.recipe.time - run.history.seconds) / an_epoch)
        run.history.planned = min(max(fitting, 1), self.recipe.epochs)
        if run.history.planned < self.recipe.epochs:
            run.history.findings.append(
                Finding(
                    rule="epochs-cut",
                    severity="info",
                    title=f"{run.history.planned} epochs fit into {self.recipe.time:.0f} s",
                    evidence={
                        "epochs": run.history.planned,
                        "asked": self.recipe.epochs,
                        "seconds_each": an_epoch,
                    },
                    meaning="The learning rate schedule was made for so many epochs; "
                    "a repeat with this number and no time limit gives the same result.",
                    remedy=Remedy(
                        "give more time", {"training.time": math.ceil(self.recipe.epochs * an_epoch / MARGIN)}
                    ),
                )
            )

    # Checkpoints.

    def _settings(self, run: _Run) -> dict[str, Any]:
        """What must not change when a run is resumed, as plain JSON values."""
        recipe = self.recipe
        settings: dict[str, Any] = {
            "rows": run.batches.rows,
            "validation rows": 0 if run.held_out is None else run.held_out.rows,
            "batch_size": run.batches.batch_size,
            "shuffle": run.batches.shuffle,
            "seed": self.seed,
            "schedule": getattr(self._schedule, "__name__", "") if self._own_schedule else recipe.schedule,
            "warmup": recipe.warmup,
            "patience": recipe.patience,
            "monitor": self.monitor,
            "precision": recipe.precision,
            "channels_last": recipe.channels_last,
        }
        for player in run.players:
            settings[f"{player.name}: clip_norm"] = player.clip_norm
            settings[f"{player.name}: optimizer"] = type(player.optimizer).__name__
            for index, group in enumerate(player.optimizer.param_groups):
                options = {"lr": group.get("initial_lr", group["lr"]), "parameters": len(group["params"])}
                options |= {k: v for k, v in group.items() if k not in ("params", "lr", "initial_lr")}
                for name, value in options.items():
                    settings[f"{player.name}: {name} of group {index}"] = str(value)
        return settings

    def _environment(self) -> dict[str, Any]:
        """What the last bits of a result depend on beside the settings."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else platform.machine()
        return {"torch": torch.__version__, "device": name, "threads": torch.get_num_threads()}

    def _save(self, run: _Run) -> Path | None:
        if self.checkpoints is None:
            return None
        history = run.history
        tensors: dict[str, Mapping[str, Tensor]] = {"network": self.network.state_dict()}
        if run.best:
            tensors["best"] = run.best
        values = {}
        for player in run.players:
            tensors[f"optimizer-{player.name}"], values[player.name] = optimizer_to_tensors(player.optimizer)
        state = {
            "position": asdict(run.position),
            "epochs": [record._asdict() for record in history],
            "best": history.best,
            "planned": history.planned,
            "seconds": history.seconds,
            "findings": [finding.to_json() for finding in history.findings],
            "optimizers": values,
            "settings": self._settings(run),
            "environment": self._environment(),
        }
        return save(self.checkpoints, tensors, state, keep=self.recipe.keep_checkpoints)

    def _restore(self, run: _Run) -> bool:
        """Take everything from the newest whole checkpoint; whether any step had been done."""
        if self.checkpoints is None:
            raise RecipeError("there is nothing to resume from", "give the trainer a folder for checkpoints")
        found = load_newest(self.checkpoints)
        if found is None:
            return False
        history, state, tensors = run.history, found.state, found.tensors
        try:
            history.findings += [Finding.from_json(values) for values in state["findings"]] + found.findings
            self._compare(run, state)
            check_tensors(tensors["network"], self.network.state_dict(), file=found.folder)
            self.network.load_state_dict(tensors["network"])
            for player in run.players:
                entries, values = tensors[f"optimizer-{player.name}"], state["optimizers"][player.name]
                optimizer_from_tensors(player.optimizer, entries, values)
            run.best = tensors.get("best", {})
            run.position = Position(**state["position"])
            history.epochs = [EpochRecord(**values) for values in state["epochs"]]
            history.best, history.seconds = state["best"], state["seconds"]
            if self.recipe.time > 0:  # the epochs were cut to the time there was, and the schedule made for them
                history.planned = state["planned"]
        except (KeyError, TypeError) as error:
            raise DamagedError(f"this is no checkpoint of a trainer: {error}", file=found.folder) from None
        return run.position != Position()  # a run stopped before its first step is begun as if it never was

    def _compare(self, run: _Run, state: Mapping[str, Any]) -> None:
        """Refuse other settings, and note another machine."""
        now, then = self._settings(run), state["settings"]
        changed = [f"{name} was {then.get(name)}, is {now.get(name)}" for name in {**then, **now}
                   if then.get(name) != now.get(name)]  # fmt: skip
        if changed:
            raise RecipeError(
                f"this run was started with other settings: {', '.join(changed[:10])}",
                "resume it with the same ones, or start a new one",
                file=self.checkpoints,
            )
        notes = {
            name: [then_value, self._environment().get(name)]
            for name, then_value in state["environment"].items()
            if then_value != self._environment().get(name)
        }
        if self.recipe.time == 0 and state["planned"] != run.history.planned:
            notes["epochs"] = [state["planned"], run.history.planned]
        if notes:
            run.history.findings.append(
                Finding(
                    rule="resumed-elsewhere",
                    severity="warning",
                    title=f"resumed with another {' and '.join(notes)}: not the bits of a run left alone",
                    evidence={name: {"then": old, "now": new} for name, (old, new) in notes.items()},
                    meaning="Sums are rounded in another order, or the learning rate follows another course.",
                )
            )

    def _save_and_explain(self, run: _Run) -> InterruptedRunError:
        place = self._save(run)
        where = f"in epoch {run.position.epoch + 1}, after step {run.position.step}"
        if place is None:
            return InterruptedRunError(
                f"interrupted {where}; nothing was saved, for no folder for checkpoints was given"
            )
        return InterruptedRunError(f"interrupted {where}; saved to {place}; go on with fit(..., resume=True)")


@dataclass(slots=True)
class _Run:
    """What one call of `fit` works on."""

    players: Sequence[Player]
    batches: Batches
    held_out: Batches | None
    history: History
    position: Position = field(default_factory=Position)
    best: dict[str, Tensor] = field(default_factory=dict)
    """A copy of the network's state after the best epoch; empty before there is one."""


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode; afterwards each in the mode it was in (a frozen one stays frozen)."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def find_device(name: str) -> torch.device:
    """The device of a name; `auto` is the fastest there is.

    Raises:
        RecipeError: naming what there is, if it is not there.
    """
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if name == "auto":
        return torch.device(there[-1])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f'"{name}" is not a device', nearest(name, there)) from None
    if device.type not in there:
        raise RecipeError(f'there is no device "{name}" here', f"take one of: {', '.join(there)}")
    return device


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _tensors(rows: Rows) -> tuple[Tensor, ...]:
    """Arrays as tensors without a copy, float64 ones as float32."""
    arrays = rows if isinstance(rows, tuple) else (rows,)
    with warnings.catch_warnings():  # a memory-mapped array is read-only; so is our use of it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensors = tuple(a if isinstance(a, Tensor) else torch.from_numpy(np.asarray(a)) for a in arrays)
    return tuple(tensor.float() if tensor.dtype == torch.float64 else tensor for tensor in tensors)
