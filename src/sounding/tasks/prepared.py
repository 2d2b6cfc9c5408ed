"""Everything that is known before the first step of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sounding.batches import Batches, Transform
from sounding.data.schema import Schema
from sounding.data.split import Split
from sounding.data.stored import StoredArray, StoredBatches
from sounding.data.table import Table
from sounding.finding import Finding
from sounding.kinds import Block, Encoded
from sounding.networks import centre_on
from sounding.networks.initialization import initialize_from_data
from sounding.randomness import draw_seed
from sounding.recipe import Recipe
from sounding.tasks import TASKS, Task, arrange, build_network, lengths_of, measure_on
from sounding.tasks.beginning import Beginning
from sounding.tasks.drawing import evenly
from sounding.tasks.varying import variation

ROWS_FOR_VARIANCES = 512
"""Training rows on which an initialization from data measures."""
ROWS_FOR_BANDS = 256
"""Training recordings from which mean and deviation of the bands of a spectrogram are taken, spread evenly."""
ROWS_FOR_A_CENTRE = 4096
"""Training rows whose mean is the centre of a one-class network."""


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the first step."""

    recipe: Recipe
    """Complete: what the user did not set is chosen for the data."""
    table: Table
    """All rows, or a sample of them where they do not fit into memory."""
    schema: Schema
    split: Split
    """Of the rows of the table."""
    encoded: Encoded
    task: Task
    target: np.ndarray
    """The truth of every row, as the task's metrics take it."""
    findings: list[Finding]
    decisions: list[str]
    """What was decided and why, a line each."""
    stored: Mapping[str, StoredArray] = dataclass_field(default_factory=dict)
    """The encoded training rows on disk, where they do not fit into memory: `input 0`, ..., `target`, `weight`."""
    beginning: Beginning | None = None
    """What was trained before, and the network begins with."""
    carried: Mapping[str, Any] = dataclass_field(default_factory=dict)
    """What was carried over from it, as plain JSON values."""

    @property
    def training_rows(self) -> int:
        """How many rows are trained on, in memory or on disk."""
        return len(self.stored["target"]) if self.stored else len(self.split.train)

    @property
    def blocks(self) -> list[Block]:
        """What the network is told of its inputs."""
        return self.task.blocks_of(self.schema, self.recipe)

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """The encoded columns of all rows, in the order in which the network takes them."""
        return arrange(self.encoded.blocks)

    def inputs_of(self, rows: np.ndarray) -> tuple[Tensor, ...]:
        """What a batch of some rows is made of: mostly their encoded columns."""
        return self.task.inputs_of(() if self.task.from_source.ordered else self.inputs, rows)

    def network(self) -> nn.Module:
        """The untrained network; its first weights are a function of the seed, but for those trained before."""
        with torch.random.fork_rng():
            torch.manual_seed(draw_seed(self.recipe.seed, "initialization"))
            network = build_network(self.blocks, self.task.outputs, self.recipe.network, self.task.answers)
            if any(block.form == "sound" for block in self.blocks):
                measure_on(network, self.inputs_of(self.split.train[evenly(len(self.split.train), ROWS_FOR_BANDS)]))
            if self.recipe.network.options.get("initialization") == "lsuv":
                initialize_from_data(network, self.inputs_of(self.split.train[:ROWS_FOR_VARIANCES]))
            if "distances" in self.task.answers:  # no other network has a centre
                centre_on(network, *self.inputs_of(self.split.train[:ROWS_FOR_A_CENTRE]))
        if self.beginning is not None:
            self.beginning.load_into(network, self.blocks)
        with torch.random.fork_rng():
            torch.manual_seed(draw_seed(self.recipe.seed, "initialization", "around"))
            return self.task.around(network)

    def by(self, recipe: Recipe) -> Prepared:
        """The same rows for another recipe of network and training."""
        task = TASKS[recipe.task].for_schema(self.schema, recipe).reading(self.table, self.encoded)
        return replace(self, recipe=recipe, task=task.keeping(self.split.train).knowing(self.target[self.split.train]))

    def batches(self, rows: np.ndarray, *, training: bool = False) -> Batches:
        """Some rows as batches; those that are trained on come shuffled and augmented.

        Of data larger than memory, what is trained on are all training rows, whichever rows of the table are asked for.
        """
        if training and self.stored:
            return self._stored_batches()
        weight = self.schema.encode_weight(self.table)
        if weight is not None:
            weight = weight / weight[self.split.train].mean()
        inputs = self.inputs_of(rows)
        goals = self.task.goals(self.target[rows], inputs)
        inputs = self.task.taught(inputs, goals)
        lengths = self.task.lengths(inputs, goals)
        if lengths is None and not self.task.from_source.ordered:
            lengths = lengths_of(self.blocks, inputs)
        return self.task.batches(
            inputs,
            goals,
            None if weight is None else torch.from_numpy(weight[rows]).float(),
            batch_size=self.recipe.training.batch_size or max(len(rows), 1),
            seed=self.recipe.seed,
            shuffle=training,
            transform=self.transform() if training else None,
            workers=self.recipe.training.workers if training else 0,
            lengths=lengths,
            trim=self.task.trim if lengths is not None or self.task.from_source.ordered else None,
        )

    def _stored_batches(self) -> StoredBatches:
        inputs = [array for name, array in self.stored.items() if name.startswith("input ")]
        return StoredBatches(
            inputs,
            self.stored["target"],
            self.stored.get("weight"),
            batch_size=self.recipe.training.batch_size or len(self.stored["target"]),
            seed=self.recipe.seed,
            shuffle=True,
            transform=self.transform(),
            workers=self.recipe.training.workers,
        )

    def transform(self) -> Transform | None:
        """What is done to batches that are trained on."""
        own = self.task.transform(self.recipe.seed)
        return own if own is not None else variation(self.blocks, self.task, self.recipe)[0]

    def lines(self, *, everything: bool = False) -> list[str]:
        """What was decided and found, for people; what is merely good to know only if everything is asked for."""
        told = [finding for finding in self.findings if everything or finding.severity != "info"]
        return self.decisions + [f"{finding.severity}: {finding.title}" for finding in told]

    def to_json(self) -> dict[str, Any]:
        """What `sounding check --json` prints."""
        return {
            "source": self.table.name,
            "rows": {part: len(rows) for part, rows in self.split.parts.items()},
            "columns": [
                {"name": field.name, "kind": field.kind, "role": field.role, "reason": field.reason}
                for field in self.schema.fields
            ],
            "findings": [finding.to_json() for finding in self.findings],
        }
