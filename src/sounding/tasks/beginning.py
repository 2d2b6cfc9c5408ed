"""What a run can begin with that was trained before, in the place of weights that are drawn at random."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import nn

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.kinds import Block, Kind
from sounding.recipe import DataRecipe, NetworkRecipe, Recipe
from sounding.training.checkpoint import write_folder


@dataclass(frozen=True)
class Begun:
    """What follows for a run from what it begins with."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of training, where the user set none."""
    lines: Sequence[str] = ()
    """For people."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """What was carried over, as plain JSON values."""


class Beginning(ABC):
    """Weights that were trained before, and how the network that they are of reads its inputs."""

    kept: ClassVar[str]
    """The folder in a run where it is kept as it was at the start, so that the run needs nothing else to go on."""
    fixes_network: ClassVar[bool] = False
    """Whether a network with other options could not take the weights."""

    @abstractmethod
    def files(self) -> Mapping[str, bytes]:
        """All of it, by the names of the files in which it is kept."""

    @abstractmethod
    def known(self, schema: Schema, table: Table, rows: np.ndarray, settings: DataRecipe) -> dict[str, Kind]:
        """How columns are encoded that the network reads; no other encoding would be understood.

        rows: those that are trained on.

        Raises:
            RecipeError: if there is no such column.
        """

    @abstractmethod
    def network_settings(
        self, blocks: Sequence[Block], asked: NetworkRecipe, answers: str | Sequence[str] = "logits"
    ) -> dict[str, Any]:
        """Name and options of the network.

        answers: what the task asks of it; see `networks.Family`.

        Raises:
            RecipeError: if another is asked for.
        """

    @abstractmethod
    def told(self) -> str:
        """In words, for people: why it is this network."""

    @abstractmethod
    def load_into(self, network: nn.Module, blocks: Sequence[Block]) -> object:
        """Give its weights to a network that was built for them; what is new, such as the head, stays as it is."""

    def begun(self, network: nn.Module, blocks: Sequence[Block], known: Mapping[str, Kind], recipe: Recipe) -> Begun:
        """What follows for the run; `known` as above."""
        return Begun()

    def facts(self) -> Mapping[str, str]:
        """What the bits of the run depend on besides."""
        return {}

    def store(self, run: Path) -> None:
        """Keep a copy in the folder of a run; it is there when it is whole."""
        write_folder(run / self.kept, self.files())
