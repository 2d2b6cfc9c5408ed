"""What a checkpoint of a trainer holds, how it is saved and taken up, and what must be the same then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sounding.batches import Batches
from sounding.errors import DamagedError, InterruptedRunError, RecipeError, UserError
from sounding.finding import Finding
from sounding.recipe import TrainingRecipe
from sounding.training.checkpoint import (
    Checkpoint,
    Writer,
    check_tensors,
    load,
    load_newest,
    optimizer_from_tensors,
    optimizer_to_tensors,
)
from sounding.training.distributed import Processes, load_shards, save_shards, state_of_shards
from sounding.training.history import History
from sounding.training.loop import EpochRecord, Player, Position
from sounding.training.machine import machine_class
from sounding.training.plan import Way


@dataclass(slots=True)
class Progress:
    """Everything that changes while a trainer trains."""

    network: nn.Module
    players: Sequence[Player]
    batches: Batches
    held_out: Batches | None
    history: History
    position: Position = field(default_factory=Position)
    best: dict[str, Tensor] = field(default_factory=dict)
    """A copy of the network's state after the best epoch; empty before there is one."""

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """All tensors of a checkpoint, by the name of their file."""
        tensors: dict[str, Mapping[str, Tensor]] = {"network": self.network.state_dict()}
        if self.best:
            tensors["best"] = self.best
        for player in self.players:
            tensors[f"optimizer-{player.name}"], _ = optimizer_to_tensors(player.optimizer)
            if player.average is not None:
                tensors[f"average-{player.name}"] = player.average.tensors()
        return tensors

    def place_of(self, file: str, name: str) -> Tensor | None:
        """The parameter or buffer that a tensor of a checkpoint belongs to, if it belongs to one."""
        for player in self.players:
            if file == f"optimizer-{player.name}":
                parameters = [parameter for group in player.optimizer.param_groups for parameter in group["params"]]
                index = int(name.partition(".")[0])
                return parameters[index] if index < len(parameters) else None
        return self.network.state_dict().get(name)

    def values(self) -> dict[str, Any]:
        """Everything else of a checkpoint, as plain JSON values."""
        history = self.history
        return {
            "position": asdict(self.position),
            "epochs": [record._asdict() for record in history],
            "best": history.best,
            "planned": history.planned,
            "seconds": history.seconds,
            "findings": [finding.to_json() for finding in history.findings],
            "optimizers": {player.name: optimizer_to_tensors(player.optimizer)[1] for player in self.players},
            "scalers": {p.name: p.scaler.state_dict() for p in self.players if p.scaler.is_enabled()},
            "norms": {p.name: list(p.clipping.recent) for p in self.players if p.clipping is not None},
            "averages": {p.name: p.average.values() for p in self.players if p.average is not None},
        }

    def restore(self, found: Checkpoint) -> None:
        """Become what was saved.

        Raises:
            DamagedError: if it is of another network, or of something else altogether.
        """
        history, state, tensors = self.history, found.state, found.tensors
        try:
            history.findings += [Finding.from_json(values) for values in state["findings"]] + found.findings
            check_tensors(tensors["network"], self.network.state_dict(), file=found.folder)
            self.network.load_state_dict(tensors["network"])
            for player in self.players:
                entries, values = tensors[f"optimizer-{player.name}"], state["optimizers"][player.name]
                optimizer_from_tensors(player.optimizer, entries, values)
                if player.scaler.is_enabled():
                    player.scaler.load_state_dict(state["scalers"][player.name])
                if player.clipping is not None:
                    player.clipping.recent[:] = state["norms"][player.name]
                if player.average is not None:
                    player.average.restore(tensors[f"average-{player.name}"], state["averages"][player.name])
            self.best = tensors["best"] if state["best"] is not None else {}
            self.position = Position(**state["position"])
            history.epochs = [EpochRecord(**values) for values in state["epochs"]]
            history.best, history.seconds = state["best"], state["seconds"]
        except (KeyError, TypeError) as error:
            raise DamagedError(f"this is no checkpoint of a trainer: {error}", file=found.folder) from None

    def settings(self, recipe: TrainingRecipe) -> dict[str, Any]:
        """What must not change when a run is resumed, as plain JSON values."""
        settings: dict[str, Any] = {
            "rows": self.batches.rows,
            "validation rows": 0 if self.held_out is None else self.held_out.rows,
            "batch_size": self.batches.batch_size,
            "shuffle": self.batches.shuffle,
            **{name: getattr(recipe, name) for name in UNCHANGING},
        }
        for player in self.players:
            settings[f"{player.name}: accumulate"] = player.parts
            for name in ("norm", "value", "percentile"):
                value = 0.0 if player.clipping is None else getattr(player.clipping, name)
                settings[f"{player.name}: clip_{name}"] = value
            settings[f"{player.name}: optimizer"] = type(player.optimizer).__name__
            for index, group in enumerate(player.optimizer.param_groups):
                options = {"lr": group.get("initial_lr", group["lr"]), "parameters": len(group["params"])}
                options |= {k: v for k, v in group.items() if k not in ("params", "lr", "initial_lr")}
                for name, value in options.items():
                    settings[f"{player.name}: {name} of group {index}"] = str(value)
        return settings


UNCHANGING = (
    *("release", "warmup", "patience", "l1", "l2", "noise", "averaging", "average_decay", "average_start", "precision"),
    *("float32_matmul", "attention", "channels_last", "compile", "cuda_graphs", "activation_checkpointing", "sharding"),
)
"""Fields of the recipe on which the bits of a result depend."""


REQUIRED = {"position", "settings", "way", "environment", "planned", "findings"}
"""What is looked at in a checkpoint before anything is restored from it."""


class Saver:
    """Saves the progress of a trainer, and takes a saved one up: a context manager around a training.

    folder:    none, and nothing is saved.
    settings:  what must not change when the run is resumed, beside what the progress says: seed, schedule, monitor.
    """

    def __init__(
        self,
        folder: Path | None,
        recipe: TrainingRecipe,
        device: torch.device,
        processes: Processes,
        settings: Mapping[str, Any],
    ) -> None:
        self.folder, self.recipe, self.processes, self._settings = folder, recipe, processes, settings
        self._device = device
        writes = folder is not None and processes.first
        self._writer = Writer(folder, keep=recipe.keep_checkpoints) if folder is not None and writes else None

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._writer is not None:
            self._writer.__exit__(*error)

    @property
    def is_free(self) -> bool:
        """Whether a checkpoint can be saved now without waiting for the one before it."""
        return self._writer is not None and not self._writer.busy

    def save(self, run: Progress, *, labels: Sequence[str] = (), wait: bool = True) -> Path | None:
        """Save everything; without waiting, it is copied now and written while training goes on."""
        if self.folder is None:
            return None
        state = {
            **run.values(),
            "settings": {**self._settings, **run.settings(self.recipe)},
            "way": asdict(Way.of(self.recipe)),
            "environment": self._environment(),
        }
        keep, place = self.recipe.keep_checkpoints, None
        if self.recipe.sharding == "full":
            return save_shards(self.folder, run.tensors(), state, keep=keep, processes=self.processes)
        if self._writer is not None and wait:
            place = self._writer.save_now(run.tensors(), state, labels=labels)
        elif self._writer is not None:
            self._writer.save(run.tensors(), state, labels=labels)
        if wait:
            self.processes.wait()
        return place

    def save_and_explain(self, run: Progress) -> InterruptedRunError:
        """Save, and say where training stands and how to go on."""
        place = self.save(run)
        where = f"in epoch {run.position.epoch + 1}, after step {run.position.step}"
        if run.position.epoch >= run.history.planned:
            where = "after the last epoch"
        if place is None:
            return InterruptedRunError(
                f"interrupted {where}; nothing was saved, for no folder for checkpoints was given"
            )
        return InterruptedRunError(f"interrupted {where}; saved to {place}; go on with fit(..., resume=True)")

    def take_up(self, run: Progress, found: Checkpoint) -> None:
        """Go on from a checkpoint; another machine is noted.

        Raises:
            RecipeError: naming the settings that differ.
            DamagedError: if it is of another network, or of something else altogether.
        """
        refuse_changes(found.state["settings"], {**self._settings, **run.settings(self.recipe)}, self.folder)
        if self.recipe.sharding == "full":
            found = replace(found, tensors=load_shards(found.folder, run.place_of, self.processes))
        run.restore(found)
        now, then = self._environment(), found.state["environment"]
        differ = {name: (then[name], now.get(name)) for name in then if then[name] != now.get(name)}
        if found.state["planned"] != run.history.planned:
            differ["epochs"] = (found.state["planned"], run.history.planned)
        if differ:
            run.history.findings.append(moved_elsewhere(differ))

    def _environment(self) -> dict[str, Any]:
        """What the last bits of a result depend on beside the settings."""
        threads = torch.get_num_threads()
        return {**machine_class(self._device), "threads": threads, "processes": self.processes.count}


def newest(folder: Path | None, recipe: TrainingRecipe, processes: Processes) -> Checkpoint | None:
    """The newest whole checkpoint of a trainer; none where there is none, or training had not begun.

    Raises:
        RecipeError: if no folder was given.
        DamagedError: if every checkpoint is damaged, or the newest is not of a trainer.
        UserError: if several processes do not see the same one.
    """
    if folder is None:
        raise RecipeError("there is nothing to resume from", "give the trainer a folder for checkpoints")
    found = load_newest(folder, state_of_shards if recipe.sharding == "full" else load)
    if found is None:
        return None
    if processes.agreed(found.folder.name) != found.folder.name:
        raise UserError("not all processes see the same files here", "use a folder that all share", file=found.folder)
    if not found.state.keys() >= REQUIRED:
        raise DamagedError("this is no checkpoint of a trainer", file=found.folder)
    return found if Position(**found.state["position"]) != Position() else None


def refuse_changes(then: Mapping[str, Any], now: Mapping[str, Any], file: Path | None) -> None:
    """Compare the settings of a run with those that it is to be resumed with.

    Raises:
        RecipeError: naming up to ten that differ.
    """
    changed = [f"{name} was {then.get(name)}, is {now.get(name)}" for name in {**then, **now}
               if then.get(name) != now.get(name)]  # fmt: skip
    if changed:
        raise RecipeError(
            f"this run was started with other settings: {', '.join(changed[:10])}",
            "resume it with the same ones, or start a new one",
            file=file,
        )


def moved_elsewhere(differ: Mapping[str, Sequence[Any]]) -> Finding:
    """The finding that a run was resumed in another environment; each difference as (then, now)."""
    return Finding(
        rule="resumed-elsewhere",
        severity="warning",
        title=f"resumed with another {' and '.join(differ)}: not the bits of a run left alone",
        evidence={name: {"then": old, "now": new} for name, (old, new) in differ.items()},
        meaning="Sums are rounded in another order, or the learning rate follows another course.",
    )
