"""Everything up to the first training step: read, recognise, split, encode, and look for what is odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sounding.batches import Batches, Transform
from sounding.data.cache import encode_cached, store_rows
from sounding.data.checks import identifiers, run_checks
from sounding.data.labelled import drop_unlabelled, refuse_unknown_labels
from sounding.data.schema import Schema
from sounding.data.sources import open_source, read_source
from sounding.data.split import Split, make_split, whole
from sounding.data.stored import StoredArray, StoredBatches
from sounding.data.stream import Sample, sample
from sounding.data.table import Table
from sounding.data.windows import usual_stride
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.kinds import Block, Encoded, Kind
from sounding.networks import centre_on
from sounding.networks.initialization import initialize_from_data
from sounding.randomness import draw_seed
from sounding.recipe import Recipe, before_reading, complete, is_pretrained
from sounding.tasks import (
    TASKS,
    Task,
    arrange,
    asks_for_target,
    build_network,
    choose_network,
    choose_task,
    lengths_of,
    measure_on,
)
from sounding.tasks.beginning import Beginning
from sounding.tasks.carrying import EarlierRun
from sounding.tasks.drawing import evenly
from sounding.tasks.examples import Examples
from sounding.tasks.pretrained import Encoder
from sounding.tasks.varying import variation
from sounding.training import build_optimizer, build_schedule

ROWS_FOR_VARIANCES = 512
"""Training rows on which an initialization from data measures."""
ROWS_FOR_BANDS = 256
"""Training recordings from which mean and deviation of the bands of a spectrogram are taken, spread evenly."""
ROWS_FOR_A_CENTRE = 4096
"""Training rows whose mean is the centre of a one-class network."""
MOST_NAMED = 8
"""Columns whose kind is told one by one."""


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
        return replace(self, recipe=recipe, task=task.knowing(self.target[self.split.train]))

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


def prepare(source: object, settings: Mapping[str, Any], *, test: object = None, kept: Path | None = None) -> Prepared:
    """Read a source, find out what its columns are, divide its rows, encode them, and look for what is odd.

    test: a second source with the rows that measure the result, where it is not named in the settings.
    kept: the folder of the run, if it is resumed: what it began with, and was trained before, is kept there.

    Raises:
        UserError: for anything in the data or the settings that the user can mend.
    """
    asked = Recipe().with_settings(settings)  # a mistyped key stops here, before anything is read
    asked = Recipe().with_settings({**before_reading(asked.task), **settings})
    needed = asks_for_target(asked.task)
    examples = TASKS.get(asked.task, Task).from_source
    asked = examples.settled(asked)
    beginning = _beginning(asked, kept)
    tests = asked.test or test
    tests = None if isinstance(tests, str) and not tests else tests
    table, drawn = _opened(source, asked, examples)
    if asked.task == "auto" and (meant := _meant(table, asked)):
        asked = Recipe().with_settings({**before_reading(meant), **settings, "task": meant})
        examples = TASKS[meant].from_source
        asked, needed = examples.settled(asked), asks_for_target(meant)
    target = examples.targets_of(table, asked.target or list(table.target), asked)
    if examples.cuts(asked):
        if asked.data.window:
            asked.data.stride = asked.data.stride or usual_stride(len(table), asked.data.window)
        held_out = {"test": asked.data.test if tests is None else 0.0, "validation": asked.data.validation}
        table = examples.cut(table, asked, target, held_out)
    if tests is not None:
        rows = read_source(tests, asked.data, asked.task)
        table = table.with_part("test", examples.cut(rows, asked, target, None) if examples.cuts(asked) else rows)
    if needed and not target:
        without = [name for name, task in TASKS.items() if not task.needs_target]
        raise DataError(
            "no column is named to be predicted",
            f"give --target and one of: {', '.join(table.columns)}"
            + (f"; or a --task that needs none: {', '.join(without)}" if without else ""),
            file=table.name,
        )
    table = examples.gathered(table, asked)
    table, unlabelled = drop_unlabelled(table, target, asked.data)

    data = examples.reads(
        table, target, examples.of_examples(asked.data, table) if examples.cuts(asked) else asked.data
    )
    schema = Schema.infer(table, data, target, TASKS.get(asked.task, Task).target_kind)
    split, how_split = whole(table) if examples.ordered else make_split(table, schema, data, asked.seed)
    drawn_split = split
    split, follows, why_narrowed = examples.narrowed(table, schema, split, asked)
    schema, left_out = identifiers(table, schema, split.train, data, drawn.rows if drawn else len(table))
    schema, own, rearranged = examples.arranged(table, schema, split.train, asked)
    known = own if beginning is None else {**own, **beginning.known(schema, table, split.train, data)}
    labelled = split.train if needed or examples.learns_target or examples.ordered else np.arange(len(table))
    schema, oddities = schema.fit(table, split.train, data, known, labelled, inputs_needed=not examples.ordered)
    if drawn is None:  # of a larger source, other rows may hold the others
        refuse_unknown_labels(table, schema, data)
    encoded = encode_cached(schema, table)
    task_name, why_task = choose_task(schema, asked.task)
    blocks = TASKS[task_name].blocks_of(schema, asked.with_settings(follows))
    answers = TASKS[task_name].answers
    begins = {} if beginning is None else beginning.network_settings(blocks, asked.network, answers)
    network_name = begins.get("network.name", asked.network.name)
    network_name, why_network = choose_network(blocks, network_name, answers)
    if beginning is not None:
        why_network = beginning.told()

    chosen: dict[str, Any] = {**begins, **follows, "target": target, "task": task_name, "network.name": network_name}
    if asked.data.window:
        chosen["data.stride"] = asked.data.stride
    if isinstance(source, str | Path):
        chosen["source"] = str(source)
    if isinstance(tests, str | Path):
        chosen["test"] = str(tests)
    rows_to_learn = len(split.train)
    if drawn is not None:
        rows_to_learn += drawn.rows - len(drawn.places)
        chosen["data.rows_in_memory"] = drawn.limit  # so that a repeat draws the same rows, whatever its memory
    forms: set[str] = {block.form for block in blocks}
    recipe = complete({**settings, **chosen}, forms=forms, rows=rows_to_learn, task=task_name)
    task = TASKS[task_name].for_schema(schema, recipe).reading(table, encoded)
    truth = task.encode_target(table, encoded)
    split = task.usable(split)
    task = task.knowing(truth[split.train])
    stored = {} if drawn is None else _stored(drawn, schema, drawn_split, task)
    checked = schema if needed else schema.without_targets()
    prepared = Prepared(
        recipe=recipe,
        table=table,
        schema=schema,
        split=split,
        encoded=encoded,
        task=task,
        target=truth,
        findings=[
            *table.findings,
            *unlabelled,
            *oddities,
            *left_out,
            *rearranged,
            *encoded.findings,
            *task.noticed(),
            *([] if examples.ordered else run_checks(table, checked, split, encoded)),
            *([] if drawn is None else drawn.findings(len(stored["target"]), schema, split)),
        ],
        stored=stored,
        beginning=beginning,
        decisions=[
            f"{table.name}: {len(table):,} rows, {len(table.columns)} columns"
            + ("" if drawn is None else f", drawn from {drawn.rows:,}; {len(stored['target']):,} are trained on"),
            *table.notes,
            *_kinds(schema),
            *how_split,
            *why_narrowed,
            f"task: {task_name}, because {why_task}" + (f"; {task.reason}" if task.reason else ""),
            f"network: {network_name}, {why_network}",
        ],
    )
    if beginning is not None:
        prepared = _begun(prepared, beginning, settings, known)
    network, optimizer = prepared.network(), prepared.recipe.training.optimizer
    build_optimizer(network, optimizer)  # a mistaken option shows now, before any step
    build_schedule(recipe.training.schedule, warmup=recipe.training.warmup)
    told = "" if task.transform(recipe.seed) is not None else variation(prepared.blocks, task, prepared.recipe)[1]
    if told:
        prepared.decisions.append(f"while training, examples are varied ({prepared.recipe.training.augment}): {told}")
    return prepared


def _meant(table: Table, asked: Recipe) -> str:
    """The task that the source leaves no doubt of: as it says, or as its target does; mostly none."""
    if table.task:
        return table.task
    named = asked.target or list(table.target)
    targets = [table.column(name, asked.data) for name in named if name in table.columns]
    return next((name for name, task in TASKS.items() if task.from_source.are_meant_by(targets)), "")


def _beginning(asked: Recipe, kept: Path | None) -> Beginning | None:
    """What was trained before, if the network is to begin with that."""
    if asked.transfer.source:
        return EarlierRun.open(asked.transfer, kept)
    return Encoder.open(asked.network.name, kept) if is_pretrained(asked.network.name) else None


def _begun(
    prepared: Prepared, beginning: Beginning, settings: Mapping[str, Any], known: Mapping[str, Kind]
) -> Prepared:
    """The same, with what follows from what the network begins with."""
    task, blocks = prepared.task, prepared.blocks
    network = build_network(blocks, task.outputs, prepared.recipe.network, task.answers)
    begun = beginning.begun(network, blocks, known, prepared.recipe)
    chosen = {key: value for key, value in begun.settings.items() if settings.get(key, "") == ""}
    return replace(
        prepared,
        recipe=prepared.recipe.with_settings(chosen),
        carried=begun.carried,
        decisions=[*prepared.decisions, *begun.lines],
    )


def _opened(source: object, asked: Recipe, examples: Examples) -> tuple[Table, Sample | None]:
    """All rows of a source, or some of them where it does not fit into memory."""
    whole_only = examples.cuts(asked) or examples.ordered
    read = read_source if whole_only else open_source
    opened = read(source, asked.data, asked.task)
    if isinstance(opened, Table):
        return opened, None
    drawn = sample(opened, asked.data, asked.target, asked.seed)
    return drawn.table, drawn


def _stored(drawn: Sample, schema: Schema, split: Split, task: Task) -> Mapping[str, StoredArray]:
    """All training rows of a source that does not fit into memory, encoded on disk."""
    weight = schema.encode_weight(drawn.table)
    mean = 1.0 if weight is None else weight[split.train[split.train < len(weight)]].mean()

    def chunks() -> Iterator[dict[str, np.ndarray]]:
        for chunk in drawn.training_chunks(schema, split):
            encoded = schema.encode(chunk)
            truth = task.encode_target(chunk, encoded)
            learnt = task.learns_from(truth)
            inputs = arrange(encoded.blocks)
            goals = task.goals(truth, inputs)
            arrays = {f"input {number}": tensor.numpy() for number, tensor in enumerate(task.taught(inputs, goals))}
            arrays["target"] = goals.numpy()
            if (weights := schema.encode_weight(chunk)) is not None:
                arrays["weight"] = (weights / mean).astype(np.float32)
            yield {name: values[learnt] for name, values in arrays.items()}

    return store_rows(f"{drawn.key(schema, split)}\n{task.name}", chunks)


def _kinds(schema: Schema) -> list[str]:
    """What the columns are: each with its reason while they are few, counted when they are many."""
    inputs = [field for field in schema.inputs if field.fitted is not None]
    if not inputs:
        return []
    if len(inputs) <= MOST_NAMED:
        told = [f"{field.name}: {field.kind}, {field.reason}" for field in inputs]
        return ["inputs: " + "; ".join(told)]
    names: dict[str, list[str]] = {}
    for field in inputs:
        names.setdefault(field.kind, []).append(field.name)
    return [
        f"inputs: {len(of_kind)} x {kind}: {', '.join(of_kind[:MOST_NAMED])}{', ...' * (len(of_kind) > MOST_NAMED)}"
        for kind, of_kind in names.items()
    ]
