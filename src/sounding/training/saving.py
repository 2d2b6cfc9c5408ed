"""What a checkpoint of a trainer holds, and what must be the same when it is taken up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sounding.batches import Batches
from sounding.errors import DamagedError, RecipeError
from sounding.finding import Finding
from sounding.recipe import TrainingRecipe
from sounding.training.checkpoint import (
    Checkpoint,
    check_tensors,
    optimizer_from_tensors,
    optimizer_to_tensors,
)
from sounding.training.history import History
from sounding.training.loop import EpochRecord, Player, Position
from sounding.training.machine import machine_class


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

    def settings(self, recipe: TrainingRecipe, seed: int, schedule: str, monitor: str) -> dict[str, Any]:
        """What must not change when a run is resumed, as plain JSON values."""
        settings: dict[str, Any] = {
            "rows": self.batches.rows,
            "validation rows": 0 if self.held_out is None else self.held_out.rows,
            "batch_size": self.batches.batch_size,
            "shuffle": self.batches.shuffle,
            "seed": seed,
            "schedule": schedule,
            "monitor": monitor,
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
    *("warmup", "patience", "l1", "l2", "noise", "averaging", "average_decay", "average_start", "precision"),
    *("float32_matmul", "channels_last", "compile", "cuda_graphs", "activation_checkpointing", "sharding"),
)
"""Fields of the recipe on which the bits of a result depend."""


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


def environment(device: torch.device) -> dict[str, Any]:
    """What the last bits of a result depend on beside the settings."""
    return {**machine_class(device), "threads": torch.get_num_threads()}


def moved_elsewhere(differ: Mapping[str, Sequence[Any]]) -> Finding:
    """The finding that a run was resumed in another environment; each difference as (then, now)."""
    return Finding(
        rule="resumed-elsewhere",
        severity="warning",
        title=f"resumed with another {' and '.join(differ)}: not the bits of a run left alone",
        evidence={name: {"then": old, "now": new} for name, (old, new) in differ.items()},
        meaning="Sums are rounded in another order, or the learning rate follows another course.",
    )
