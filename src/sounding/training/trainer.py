"""Train any module: early stopping, checkpoints, resuming, Ctrl-C and progress around the loop in `loop.py`."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from sounding.batches import Batch, Batches
from sounding.errors import DataError, RecipeError, UserError
from sounding.finding import Finding, Remedy
from sounding.recipe import Recipe, TrainingRecipe
from sounding.training.averaging import ExponentialMovingAverage, build_average, recompute_batch_norm
from sounding.training.checkpoint import Checkpoint
from sounding.training.clipping import Clipping
from sounding.training.compilation import compiled
from sounding.training.distributed import check_together, join
from sounding.training.gradients import checkpoint_activations
from sounding.training.healing import (
    FOLDER,
    Records,
    Score,
    Training,
    begin,
    heal,
    is_trainers,
    refuse_to_heal,
    remedied_by,
    score_of,
)
from sounding.training.history import History
from sounding.training.interruption import Signals, StopRequested
from sounding.training.loop import EpochRecord, Player, Position, StepRecord, autocast, moved, train, units_of
from sounding.training.losses import Loss, named_loss
from sounding.training.machine import find_device, is_out_of_memory, machine_set, resident
from sounding.training.optimizers import build_optimizer, parameter_groups
from sounding.training.outputs import Outputs, first, in_full_precision, joined, mapped
from sounding.training.plan import Plan, Way
from sounding.training.progress import ProgressBar
from sounding.training.regularization import add_noise, penalty
from sounding.training.rehearsal import cut_epochs, rehearsed_plan, seconds_of_an_epoch, undone
from sounding.training.restoring import batch_norms_kept, copied, evaluating
from sounding.training.saving import Progress, Saver, newest
from sounding.training.schedule_free import ScheduleFreeAdamW
from sounding.training.schedules import Schedule, build_schedule, plateau_factor
from sounding.training.settings import overruled
from sounding.training.transfer import Release
from sounding.watching import Watch, watch

Array = Tensor | np.ndarray[Any, Any]
Rows = Array | tuple[Array, ...]
Metrics = Callable[[Any, Tensor], Mapping[str, float]]
Onlooker = Callable[[StepRecord | EpochRecord], object]

READ_EVERY_ON_GPU = 10
"""Steps between readings of the loss on a GPU, where each reading makes the CPU wait."""
IN_PARTS = "batch-in-parts"
"""The rule of the finding that memory did not suffice for a whole batch."""
EVALUATION_FACTOR = 4
"""Evaluation keeps no activations for a backward pass, so its batches can be larger by this factor."""


class Trainer:
    """Trains a network, or several players, on batches.

    network:    any module; called with the inputs of a batch.
    loss:       `cross_entropy` (outputs (B, C), target (B,) classes or (B, C) probabilities), `mse`, or any
                function of (outputs, target), and of the rows' weights as a third where batches carry them.
                Always computed in float32. Used for validation, too.
    players:    instead of the loss: several sets of parameters, each with its own. With a network, they are parts of
                it, and it is saved as a whole; a plan may then choose the precision of their losses, too.
    optimizer:  a name from `OPTIMIZERS`, an optimizer, or a function from a network to one.
    recipe:     the settings; `lr`, `weight_decay`, and every field of `TrainingRecipe` as a keyword overrule it.
    schedule:   a name from `SCHEDULES`, or a function of progress.
    units:      what the loss is the mean over in a batch, where that is not its rows: tokens, for instance. Only needed
                where a batch passes in parts (`accumulate`).
    metrics:    a function of all validation outputs and targets, to a dictionary of numbers.
    compact:    what of the outputs for a batch is kept for them, where that is less than all.
    monitor:    the validation value by which the best epoch is chosen. With a `patience`, training stops so many
                epochs after the best one and the network ends with its weights; without, with those of the end.
    maximize:   whether a larger monitored value is better.
    headline:   the validation value that says how good the network is, where it is not the monitored one: by it the
                watch judges whether a loss that rises does harm.
    higher_is_better: of the headline.
    checkpoints: a folder; needed to go on after an interruption.
    onlookers:  called with every `StepRecord` and `EpochRecord`.
    say:        is told what the watch finds, a line each, as soon as it finds it.
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
        schedule: str | Schedule | None = None,
        seed: int = 0,
        units: Callable[[Batch], float] | None = None,
        metrics: Metrics | None = None,
        compact: Callable[[Outputs], Outputs] | None = None,
        monitor: str = "loss",
        maximize: bool = False,
        headline: str = "",
        higher_is_better: bool = True,
        checkpoints: str | Path | None = None,
        onlookers: Sequence[Onlooker] = (),
        say: Callable[[str], None] | None = None,
        progress: bool = True,
        **settings: Any,
    ) -> None:
        if not players and (network is None or players is not None):
            raise RecipeError("a trainer needs a network, or players", "give one of the two; of players at least one")
        if isinstance(schedule, str):
            settings["schedule"] = schedule
        own = {"name": optimizer if isinstance(optimizer, str) else None, "lr": lr, "weight_decay": weight_decay}
        own = {name: value for name, value in own.items() if value is not None}
        recipe = overruled(recipe if recipe is not None else TrainingRecipe(), settings, own)

        self.recipe, self.seed, self.monitor, self.maximize = recipe, seed, monitor, maximize
        self.processes, self.device = join(find_device(recipe.device))
        """Those that torchrun started; the trainer of each trains on its share."""
        self.network = network if network is not None else nn.ModuleDict({p.name: p.network for p in players or ()})
        self.checkpoints = Path(checkpoints) if checkpoints is not None else None
        self._loss, self._units = named_loss(loss), units
        self._players, self._own_losses = players, network is None
        self._optimizer = optimizer
        self._own_schedule = schedule if callable(schedule) else None
        self._judged_by = (headline, higher_is_better) if headline else (monitor, maximize)
        self._compact: Callable[[Outputs], Outputs] = compact if compact is not None else lambda outputs: outputs
        self._metrics, self._onlookers, self._progress = metrics, tuple(onlookers), progress
        self._say = say
        self.findings: list[Finding] = []
        """What the watch found in the last `fit`, causes first; see `recipe.watch`."""
        self.flow: dict[str, Any] = {}
        """What it measured of each layer, as plain JSON values, from the epoch on with which it `began`."""
        self._watch: Watch | None = None
        self._in_full = False
        """Whether the watch takes all the time it needs: see `attempt`."""
        self._compiled: dict[Way, Callable[[Batch], Tensor]] = {}
        self._signals = Signals()
        self._release: Release | None = None
        self._engine: nn.Module | None = None
        """What is called in the place of the network while several processes train it."""

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

        With `recipe.heal` the recipe is afterwards the one that was kept, and `findings` says what was tried.

        Raises:
            DivergedError: when the loss is no longer finite.
            InterruptedRunError: after Ctrl-C or SIGTERM, when the step is finished and a checkpoint is saved.
            RecipeError: if the run to resume was started with other settings.
            DamagedError: if every checkpoint is damaged, or belongs to another network.
        """
        if self.recipe.heal:
            return self._healed(data, validation, resume=resume)
        return self._fit(data, validation, resume=resume)

    def _fit(
        self, data: Batches | tuple[Rows, Array], validation: Batches | tuple[Rows, Array] | None, *, resume: bool
    ) -> History:
        batches = self._batches(data, shuffle=True)
        held_out = None if validation is None else self._batches(validation, shuffle=False)
        batches, held_out = self._share(batches), None if held_out is None else self._share(held_out)
        found = newest(self.checkpoints, self.recipe, self.processes) if resume else None
        if self.recipe.plan == "measure" and self.processes.count == 1:
            if found is not None:
                self.recipe = Way(**found.state["way"]).applied(self.recipe)
            else:
                self.plan(batches)
        with (
            machine_set(self.recipe, self.device),
            Signals() as self._signals,
            self._releasing(),
            self._joined(),
            self._recomputing(),
            self._saver() as saver,
        ):
            self.network.train()
            run = self._begin(self._prepared_ahead(batches), held_out)
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
                if found is not None:
                    self._take_up(run, found, saver)
                elif self.recipe.time > 0:
                    self._plan_epochs(run)
                with self._watched(run):
                    self._train(run, saver)
                self._stop_if_asked()  # while the watch experimented at the end
            except StopRequested:
                raise saver.save_and_explain(run) from None
            self._settle(run)
        return run.history

    def attempt(self, data: Batches | tuple[Rows, Array], validation: Batches | tuple[Rows, Array]) -> Training:
        """Train once as `fit` does, without checkpoints but watched in full, and measure what came of it."""
        recipe, history, score, error = Recipe(seed=self.seed, training=self.recipe), History(), Score(), None
        checkpoints, self.checkpoints, self._in_full, self.findings = self.checkpoints, None, True, []
        try:
            history = self._fit(data, validation, resume=False)
            with machine_set(self.recipe, self.device), evaluating(self.network), torch.no_grad():
                held_out = self._batches(validation, shuffle=False)
                score = score_of(held_out, self._answer, self._metrics, self.monitor, self._units or units_of)
        except UserError as met:
            error = met
        finally:
            self.checkpoints, self._in_full = checkpoints, False
        return Training(
            recipe=recipe,
            weights=copied(self.network),
            history=history,
            score=score,
            findings=self.findings,
            flow=self.flow,
            error=error,
        )

    def predict(self, inputs: Rows) -> Outputs:
        """The network's outputs for N rows, on the CPU, in float32; modules are left in the mode they were in."""
        batches = self._batches((inputs, None), shuffle=False)
        with machine_set(self.recipe, self.device), evaluating(self.network), torch.no_grad():
            self._place_network()
            return joined([mapped(Tensor.cpu, self._on_device(batch)) for batch in batches.epoch(0)])

    def plan(self, data: Batches | tuple[Rows, Array], *, precisions: Sequence[str] = ("float32", "bfloat16")) -> Plan:
        """Measure how to use the machine for this network and these batches, and go that way from here on.

        The weights, the optimizer and the generators are left as they were. What was measured is kept for later
        runs of the same network on the same machine.

        precisions:  what may be chosen.

        Raises:
            RecipeError: where several processes train: they would not choose the same.
        """
        if self.processes.count > 1:
            raise RecipeError(
                "one process of several cannot plan", 'measure with one, and give the others plan = "given"'
            )
        batches = self._batches(data, shuffle=True)
        plan = rehearsed_plan(
            lambda way, steps: self._trial(batches, way, steps),
            self.network,
            batches,
            self.recipe,
            self.device,
            precisions=precisions,
            players=self._players is not None,
            own_losses=self._own_losses,
            own_optimizer=self._optimizer is not None,
        )
        self.recipe = plan.way.applied(self.recipe)
        return plan

    def _healed(
        self,
        data: Batches | tuple[Rows, Array],
        validation: Batches | tuple[Rows, Array] | None,
        *,
        resume: bool,
    ) -> History:
        """Train, and again with remedies of what was found; the recipe is then the one that was kept."""
        own = self._players is not None or isinstance(self._optimizer, Optimizer)
        held_out = None if validation is None else self._batches(validation, shuffle=False)
        refuse_to_heal(own=own, rows=held_out.rows if held_out is not None else 0, processes=self.processes.count)
        assert held_out is not None
        records = Records(None if self.checkpoints is None else self.checkpoints / FOLDER, resume=resume)
        if self.recipe.plan == "measure" and (way := records.way()) is not None:
            self.recipe = way.applied(self.recipe)
        elif self.recipe.plan == "measure":
            self.plan(data)
        recipe, start = begin(Recipe(seed=self.seed, training=self.recipe), copied(self.network), records)

        def train_with(recipe: Recipe) -> Training:
            self.recipe = recipe.training
            self.network.load_state_dict(start)
            return self.attempt(data, held_out)

        keys = partial(
            is_trainers,
            own_rows=isinstance(data, Batches),
            own_optimizer=self._optimizer is not None and not isinstance(self._optimizer, str),
            own_schedule=self._own_schedule is not None,
        )
        asked = self.recipe
        try:
            kept = heal(
                recipe,
                train_with,
                records,
                remedied=remedied_by(keys),
                monitor=self.monitor,
                maximize=self.maximize,
                say=self._say,
            )
        finally:
            self.recipe = asked  # one that was interrupted heals on when it is resumed
        self.network.load_state_dict(kept.weights)
        self.recipe, self.findings, self.flow = kept.recipe.training, list(kept.findings), dict(kept.flow)
        if kept.error is not None:
            raise kept.error
        return kept.history

    def _train(self, run: Progress, saver: Saver) -> None:
        """Turn records into history, checkpoints and an ending."""
        history, began, saved = run.history, time.monotonic() - run.history.seconds, time.monotonic()
        over = ending = history.over(self.recipe, self.monitor)
        records = self._within_memory(run)
        with self._shown(history.planned) as onlookers:
            while not ending and (record := next(records, None)) is not None:
                history.seconds = time.monotonic() - began
                labels: list[str] = []
                if isinstance(record, StepRecord) and self._watch is not None:
                    self._tell(self._watch, record, run)
                if isinstance(record, EpochRecord):
                    history.seconds = self.processes.agreed(history.seconds)
                    if self._watch is not None and "loss" in record.validation:
                        self._tell_validation(self._watch, record.validation)
                    if history.add(record, self.monitor, maximize=self.maximize):
                        with self._weights_to_keep(run):
                            run.best = copied(self.network)
                        labels += ["best"] * self.recipe.keep_best
                    if self.recipe.keep_every and (record.epoch + 1) % self.recipe.keep_every == 0:
                        labels.append(f"epoch{record.epoch + 1}")
                    ending = history.over(self.recipe, self.monitor)
                for onlooker in onlookers:
                    onlooker(record)
                is_time = saver.is_free and time.monotonic() - saved > self.recipe.checkpoint_every
                stop, is_time = self.processes.any(self._signals.arrived, is_time)
                if stop:
                    raise StopRequested
                if is_time or labels:
                    saver.save(run, labels=labels, wait=False)
                    saved = time.monotonic()
        history.ending = ending
        if not over:
            saver.save(run)

    def _tell(self, watch: Watch, record: StepRecord, run: Progress) -> None:
        """Let the watch know of a step; where its loss was lost, by a second look at its batch."""
        if not math.isfinite(record.loss) and watch.players[record.player].lost is None:
            player = next(player for player in run.players if player.name == record.player)
            batch = next(run.batches.epoch(record.epoch, start_step=record.step))
            parts = player.split(moved(batch, self.device), self.processes, run.batches.rows_in(record.step))
            with batch_norms_kept(self.network), watch.attached():
                for part, _ in parts:  # as it passed before: the whole may not fit into memory
                    player.loss(part).backward()  # type: ignore[no-untyped-call]
        watch.stepped(record.player, record.loss, record.learning_rate)

    def _tell_validation(self, watch: Watch, validation: Mapping[str, float]) -> None:
        name, higher_is_better = self._judged_by
        score = validation.get(name) if name != "loss" else None  # the loss is told anyway
        watch.validation(validation["loss"], score=score, higher_is_better=higher_is_better)

    def _saver(self) -> Saver:
        own = self._own_schedule
        schedule = getattr(own, "__name__", "") if own is not None else self.recipe.schedule
        settings = {"seed": self.seed, "schedule": schedule, "monitor": self.monitor}
        return Saver(self.checkpoints, self.recipe, self.device, self.processes, settings)

    def _take_up(self, run: Progress, found: Checkpoint, saver: Saver) -> None:
        """Become what was saved, after taking over what the run that saved it found out about time and memory."""
        if self.recipe.time > 0:  # the epochs were cut to the time there was, and the schedule made for them
            run.history.planned = found.state["planned"]
        for finding in found.state["findings"]:
            if finding["rule"] == IN_PARTS:
                self.recipe = replace(self.recipe, accumulate=finding["evidence"]["parts"])
        run.players = self._build_players(run.batches, run.history)
        saver.take_up(run, found)

    def _within_memory(self, run: Progress) -> Iterator[StepRecord | EpochRecord]:
        """The records of the whole run; where its first batch does not fit into memory, it passes in parts.

        Raises:
            UserError: if memory runs out later, or even for a single row.
        """
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        while True:
            parts = self.recipe.accumulate
            try:
                yield from self._records(run, run.history.planned)
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                retry = run.position == Position() and self._players is None and 2 * parts <= run.batches.batch_size
                if not retry or self.processes.count > 1:
                    raise UserError(
                        f"memory ran out in epoch {run.position.epoch + 1}, step {run.position.step + 1}, with batches "
                        f"of {run.batches.batch_size} rows in {parts} part{'s' * (parts > 1)}: {_in_short(error)}",
                        f"set training.accumulate={2 * parts}, a smaller training.batch_size, or a smaller network",
                    ) from None
            for parameter in self.network.parameters():
                parameter.grad = None
            for buffer, value in buffers:
                buffer.copy_(value)
            self.recipe = replace(self.recipe, accumulate=2 * parts)
            run.players = self._build_players(run.batches, run.history)
            if self._watch is not None:
                self._watch.renew({player.name: player.optimizer for player in run.players})
            run.history.findings = [f for f in run.history.findings if f.rule != IN_PARTS]
            run.history.findings.append(
                Finding(
                    rule=IN_PARTS,
                    severity="info",
                    title=f"a batch did not fit into memory: it passes in {2 * parts} parts",
                    evidence={"batch_size": run.batches.batch_size, "parts": 2 * parts},
                    meaning="Gradients are added up: each step is that of the whole batch; only batch norm sees parts.",
                    remedy=Remedy("spare the attempts next time", {"training.accumulate": 2 * parts}),
                )
            )

    def _settle(self, run: Progress) -> None:
        """Leave the network with the weights to keep: the best ones, the averaged ones, or the last."""
        if run.best and self.recipe.patience > 0:
            self.network.load_state_dict(run.best)
            return
        with self._weights_to_keep(run):
            kept = copied(self.network)
        self.network.load_state_dict(kept)

    def _records(self, run: Progress, epochs: int) -> Iterator[StepRecord | EpochRecord]:
        return train(
            run.players,
            run.batches,
            epochs=epochs,
            seed=self.seed,
            position=run.position,
            validate=None if run.held_out is None else lambda epoch: self._validate(run),
            device=self.device,
            precision=self.recipe.precision if self._players is not None else "float32",  # else: see _forward
            read_every=1 if self.device.type == "cpu" else READ_EVERY_ON_GPU,
            processes=self.processes,
        )

    # The arithmetic of one batch.

    def _forward(self, batch: Batch) -> Outputs:
        inputs = batch.inputs
        if self.recipe.channels_last:
            inputs = tuple(t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for t in inputs)
        if self.recipe.noise and self.network.training:
            inputs = tuple(add_noise(t, self.recipe.noise) if t.is_floating_point() else t for t in inputs)
        network = self._engine if self._engine is not None and self.network.training else self.network
        with autocast(self.device, self.recipe.precision):
            outputs = network(*inputs)
        return in_full_precision(outputs)

    def _on_device(self, batch: Batch) -> Outputs:
        return self._forward(moved(batch, self.device))

    def _loss_from(self, outputs: Outputs, batch: Batch) -> Tensor:
        if batch.weight is not None:
            return self._loss(outputs, batch.target, batch.weight)
        return self._loss(outputs, batch.target)

    def _answer(self, batch: Batch) -> tuple[Outputs, Tensor, Tensor | None]:
        """Outputs, loss and target of a batch, on the device."""
        batch = moved(batch, self.device)
        outputs = self._forward(batch)
        return self._compact(outputs), self._loss_from(outputs, batch), batch.target

    def _loss_of(self, batch: Batch) -> Tensor:
        loss = self._loss_from(self._forward(batch), batch)
        if self.recipe.l1 or self.recipe.l2:
            loss = loss + penalty(self._penalized, self.recipe.l1, self.recipe.l2)
        return loss

    def _validate(self, run: Progress) -> dict[str, float]:
        """The mean loss over the rows that are held out, and the metrics; stops early when asked to stop."""
        assert run.held_out is not None
        totals, shares = dict[str, float](), 0.0
        kept: list[tuple[Outputs, Tensor, Tensor]] = []
        seen = self._watch.attached() if self._watch is not None else nullcontext()
        with evaluating(self.network), self._weights_to_keep(run), torch.no_grad(), seen:
            for batch in self.processes.filled(run.held_out, 0):
                batch = moved(batch, self.device)
                if self._players is not None:
                    losses = {player.name: player.loss(batch) for player in run.players}
                else:
                    outputs = self._forward(batch)
                    losses = {"network": self._loss_from(outputs, batch)}
                    if self._metrics is not None and batch.target is not None:
                        rows = len(batch.rows)
                        kept.append((first(rows, self._compact(outputs)), batch.target[:rows], batch.rows))
                share = (self._units or units_of)(batch) if len(batch.rows) else 0.0
                shares += share
                for name, loss in losses.items():
                    totals[name] = totals.get(name, 0.0) + (loss.item() * share if share else 0.0)
                self._stop_if_asked()
            *sums, shares = self.processes.sum(torch.tensor([*totals.values(), shares], dtype=torch.float64)).tolist()
            means = {name: total / shares for name, total in zip(totals, sums, strict=True)}
            named = {f"loss_{name}": mean for name, mean in means.items()} if len(means) > 1 else {}
            measured = {}
            if self._metrics is not None and kept:
                outputs, target = self._gathered(*(joined(parts) for parts in zip(*kept, strict=True)))
                measured = {name: float(value) for name, value in self._metrics(outputs, target).items()}
        return self.processes.agreed({"loss": next(iter(means.values())), **named, **measured})

    def _gathered(self, outputs: Outputs, target: Tensor, rows: Tensor) -> tuple[Outputs, Tensor]:
        """The outputs and targets of all processes, in the order of the rows."""
        if self.processes.count == 1:
            return outputs, target
        order = self.processes.gather(rows).argsort()
        outputs = mapped(lambda tensor: self.processes.gather(tensor)[order], outputs)
        return outputs, self.processes.gather(target)[order]

    def _stop_if_asked(self) -> None:
        (stop,) = self.processes.any(self._signals.arrived)
        if stop:
            raise StopRequested

    # Setting up.

    def _batches(self, data: Batches | tuple[Rows, Array | None], *, shuffle: bool) -> Batches:
        if not isinstance(data, Batches):
            inputs, target = data
            tensors = _tensors(inputs)
            size = self.recipe.batch_size or max(len(tensors[0]), 1)
            goals = None if target is None else _tensors(target)[0]
            size = size if shuffle else EVALUATION_FACTOR * size
            data = Batches(tensors, goals, batch_size=size, seed=self.seed, shuffle=shuffle)
        if data.rows == 0:
            raise DataError("there are no rows", "give at least one")
        return resident(data, self.device)

    def _prepared_ahead(self, batches: Batches) -> Batches:
        ahead = copy.copy(batches)
        ahead.workers = self.recipe.workers
        return ahead

    def _share(self, batches: Batches) -> Batches:
        count = self.processes.count
        return batches if count == 1 else batches.shared(self.processes.rank, count)

    @contextmanager
    def _joined(self) -> Iterator[None]:
        """The network in its place, and as all processes train it together; afterwards plain, and the same in each."""
        self._place_network()
        if self.processes.count > 1:
            check_together(self.recipe, isinstance(self._optimizer, Optimizer), self._players is not None)
        plain = self.network
        try:
            with self.processes.joined(plain, self.recipe.sharding, wrap=self._players is None) as (network, engine):
                self.network, self._engine = network, engine
                yield
        finally:
            self.network, self._engine = plain, None

    def _place_network(self) -> None:
        self.network.to(self.device)
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        if any(parameter.ndim == 4 for parameter in self.network.parameters()):
            self.network.to(memory_format=layout)  # type: ignore[call-overload]

    def _begin(self, batches: Batches, held_out: Batches | None) -> Progress:
        """Everything as it is before the first step."""
        history = History(planned=self.recipe.epochs)
        return Progress(self.network, self._build_players(batches, history), batches, held_out, history)

    def _begin_trial(self, batches: Batches, held_out: Batches | None) -> Progress:
        """The same for steps that are measured: with all layers released, which takes the most time."""
        trial = self._begin(batches, held_out)
        trial.players = [replace(player, release=None) for player in trial.players]
        return trial

    def _build_players(self, batches: Batches, history: History) -> Sequence[Player]:
        recipe = self.recipe
        if self._players is not None:
            return self._players
        if self._release is not None:
            self._release.end()
        self._release = Release(self.network, recipe.release) if recipe.release else None
        if self._release is not None:
            self._release.everything()
        if isinstance(self._optimizer, Optimizer):
            optimizer = self._optimizer
        elif callable(self._optimizer):
            optimizer = self._optimizer(self.network)
        else:
            optimizer = build_optimizer(self.network, recipe.optimizer, recipe.release)
        groups = parameter_groups(self.network, recipe.optimizer)
        self._penalized = [p for group in groups if group["decays"] for p in group["params"]]
        clips = recipe.clip_norm or recipe.clip_value or recipe.clip_percentile
        return [
            Player(
                "network",
                self.network,
                self._step_loss(),
                optimizer,
                self._build_schedule(history),
                Clipping(recipe.clip_norm, recipe.clip_value, recipe.clip_percentile) if clips else None,
                parts=recipe.accumulate,
                units=self._units,
                scaler=GradScaler(self.device.type, enabled=recipe.precision == "float16"),
                average=build_average(self.network, recipe, steps=len(batches), epochs=history.planned),
                release=self._release,
            )
        ]

    @contextmanager
    def _releasing(self) -> Iterator[None]:
        """Afterwards what was frozen meanwhile can be trained again."""
        try:
            yield
        finally:
            if self._release is not None:
                self._release.end()

    def _build_schedule(self, history: History) -> Schedule:
        recipe = self.recipe
        shape = self._own_schedule or build_schedule(recipe.schedule, warmup=recipe.warmup)
        if self._own_schedule is not None or recipe.schedule != "reduce_on_plateau":
            return shape
        left: dict[int, float] = {}  # of the rate, by the number of validations

        def reduced(progress: float) -> float:
            if len(history) not in left:
                left[len(history)] = plateau_factor(history.monitored(self.monitor, maximize=self.maximize))
            return shape(progress) * left[len(history)]

        return reduced

    @contextmanager
    def _watched(self, run: Progress) -> Iterator[None]:
        """The watch looks on: not yet at compiled steps, which call no hooks, nor at several processes."""
        self.findings, self.flow = [], {}
        if not self.recipe.watch or self.recipe.compile or self.processes.count > 1:
            yield
            return
        began = run.position.epoch + run.position.step / len(run.batches)
        models = {player.name: player.network for player in run.players}
        self._watch = watch(
            models,
            {player.name: player.optimizer for player in run.players},
            say=self._say,
            sparing=not self._in_full,
            is_told=True,
        )
        self._watch.patient = self._in_full
        self._watch.is_urgent = lambda: self._signals.arrived
        self._watch.scale_of = lambda name: next(p for p in run.players if p.name == name).scaler.get_scale()
        try:
            with self._watch:
                yield
        finally:
            self.flow = {"began": began, **self._watch.flow()}
            self.findings, self._watch = self._watch.findings, None

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        with checkpoint_activations(self.network) if self.recipe.activation_checkpointing else nullcontext():
            yield

    def _step_loss(self) -> Callable[[Batch], Tensor]:
        """Forward pass and loss, compiled where the recipe says so; what was compiled once stays so."""
        if not self.recipe.compile:
            return self._loss_of
        way = Way.of(self.recipe)
        if way not in self._compiled:
            self._compiled[way] = compiled(self._loss_of, cuda_graphs=self.recipe.cuda_graphs)
        return self._compiled[way]

    @contextmanager
    def _weights_to_keep(self, run: Progress) -> Iterator[None]:
        """The averaged weights in the place of the last ones, where the recipe averages; afterwards as before."""
        with ExitStack() as stack:
            stale = False
            for player in run.players:
                if player.average is not None and player.average.updates:
                    stack.enter_context(player.average.applied_to(player.network))
                    stale = stale or not isinstance(player.average, ExponentialMovingAverage)
                if isinstance(player.optimizer, ScheduleFreeAdamW):
                    stack.enter_context(player.optimizer.averaged())
                    stale = True
            if stale and self._players is None:  # batch norms measured their statistics at other weights
                stack.enter_context(batch_norms_kept(self.network))
                recompute_batch_norm(self.network, self._on_device, self.processes.filled(run.batches, 0))
            yield

    @contextmanager
    def _shown(self, epochs: int) -> Iterator[tuple[Onlooker, ...]]:
        if not self._progress or not self.processes.first:
            yield self._onlookers
            return
        with ProgressBar(epochs) as bar:
            yield (*self._onlookers, bar)

    # Trials, undone when they have been measured.

    @contextmanager
    def _trial(self, batches: Batches, way: Way, steps: int) -> Iterator[Iterator[float]]:
        """The losses of some steps of a way on the real network and batches."""
        recipe = self.recipe
        self.recipe = way.applied(recipe)
        try:
            with machine_set(self.recipe, self.device):
                self._place_network()
                self.network.train()
                run = self._begin_trial(self._prepared_ahead(batches), None)
                with self._releasing(), undone(self.network, run.players):
                    records, last = self._records(run, epochs=-(-steps // len(batches))), run.players[-1].name
                    yield (r.loss for r in records if isinstance(r, StepRecord) and r.player == last)
        finally:
            self.recipe = recipe
            self._place_network()

    def _plan_epochs(self, run: Progress) -> None:
        """Cut the epochs to the time there is, by some steps and a validation that are then undone."""
        began = time.monotonic()
        trial = self._begin_trial(run.batches, run.held_out)
        with undone(self.network, trial.players):
            an_epoch = seconds_of_an_epoch(
                trial,
                self._records,
                self._validate,
                self.processes,
                began=began,
                limit=self.recipe.time,
                stop_if_asked=self._stop_if_asked,
            )
        run.history.seconds, an_epoch = self.processes.agreed([time.monotonic() - began, an_epoch])
        cut_epochs(run.history, self.recipe, an_epoch)
        run.players = self._build_players(run.batches, run.history)


def _in_short(error: BaseException) -> str:
    """The first line of an error, without the place in PyTorch's sources."""
    return (str(error).splitlines() or [type(error).__name__])[0].rpartition("] . ")[2]


def _tensors(rows: Rows) -> tuple[Tensor, ...]:
    """Arrays as tensors without a copy, float64 ones as float32."""
    arrays = rows if isinstance(rows, tuple) else (rows,)
    with warnings.catch_warnings():  # a memory-mapped array is read-only; so is our use of it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensors = tuple(a if isinstance(a, Tensor) else torch.from_numpy(np.asarray(a)) for a in arrays)
    return tuple(tensor.float() if tensor.dtype == torch.float64 else tensor for tensor in tensors)
