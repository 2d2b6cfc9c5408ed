"""Everything up to the first training step: read, recognise, split, encode, and look for what is odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sounding.data.cache import encode_cached, store_rows
from sounding.data.checks import identifiers, run_checks
from sounding.data.labelled import refuse_unknown_labels
from sounding.data.schema import Schema
from sounding.data.split import Split, make_split, whole
from sounding.data.stored import StoredArray
from sounding.data.stream import Sample
from sounding.finding import Finding
from sounding.kinds import Encoded, Kind
from sounding.recipe import Recipe, complete
from sounding.tasks import TASKS, Task, arrange, build_network, choose_network, choose_task
from sounding.tasks.beginning import Beginning
from sounding.tasks.prepared import Prepared as Prepared
from sounding.tasks.reading import Reading, read
from sounding.tasks.varying import variation
from sounding.training import build_optimizer, build_schedule

MOST_NAMED = 8
"""Columns whose kind is told one by one."""


def prepare(source: object, settings: Mapping[str, Any], *, test: object = None, kept: Path | None = None) -> Prepared:
    """Read a source, find out what its columns are, divide its rows, encode them, and look for what is odd.

    test: a second source with the rows that measure the result, where it is not named in the settings.
    kept: the folder of the run, if it is resumed: what it began with, and was trained before, is kept there.

    Raises:
        UserError: for anything in the data or the settings that the user can mend.
    """
    reading = read(source, settings, test=test, kept=kept)
    columns = _recognised(reading)
    recipe, why = _chosen(source, settings, reading, columns)
    table, encoded, drawn = reading.table, columns.encoded, reading.drawn
    task = TASKS[recipe.task].for_schema(columns.schema, recipe).reading(table, encoded)
    truth = task.encode_target(table, encoded)
    split = task.usable(columns.split)
    task = task.keeping(split.train).knowing(truth[split.train])
    stored = {} if drawn is None else _stored(drawn, columns.schema, columns.drawn_split, task)
    prepared = Prepared(
        recipe=recipe,
        table=table,
        schema=columns.schema,
        split=split,
        encoded=encoded,
        task=task,
        target=truth,
        findings=[
            *table.findings,
            *reading.findings,
            *columns.findings,
            *encoded.findings,
            *task.noticed(),
            *_odd(reading, columns.schema, split, encoded),
            *([] if drawn is None else drawn.findings(len(stored["target"]), columns.schema, split)),
        ],
        stored=stored,
        beginning=reading.beginning,
        decisions=[
            f"{table.name}: {len(table):,} rows, {len(table.columns)} columns"
            + ("" if drawn is None else f", drawn from {drawn.rows:,}; {len(stored['target']):,} are trained on"),
            *table.notes,
            *_kinds(columns.schema),
            *columns.decisions,
            f"task: {recipe.task}, because {why['task']}" + (f"; {task.reason}" if task.reason else ""),
            f"network: {recipe.network.name}, {why['network']}",
        ],
    )
    if reading.beginning is not None:
        prepared = _begun(prepared, reading.beginning, settings, columns.known)
    network, training = prepared.network(), prepared.recipe.training
    build_optimizer(network, training.optimizer)  # a mistaken option shows now, before any step
    build_schedule(training.schedule, warmup=training.warmup)
    told = "" if task.transform(recipe.seed) is not None else variation(prepared.blocks, task, prepared.recipe)[1]
    if told:
        prepared.decisions.append(f"while training, examples are varied ({training.augment}): {told}")
    return prepared


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are, and which rows learn, choose and measure."""

    schema: Schema
    """With what the training rows taught."""
    split: Split
    drawn_split: Split
    """Before the task narrowed it: what it was that a sample of a larger source was divided into."""
    encoded: Encoded
    known: Mapping[str, Kind]
    """By column what was not learned from the training rows."""
    follows: Mapping[str, Any]
    """Settings that follow from the rows."""
    findings: list[Finding]
    decisions: list[str]


def _recognised(reading: Reading) -> Columns:
    """Find out what each column is, divide the rows, learn from those that are trained on, and encode all."""
    table, data, examples, asked = reading.table, reading.data, reading.examples, reading.asked
    schema = Schema.infer(table, data, reading.target, reading.task.target_kind)
    drawn_split, how_split = whole(table) if examples.ordered else make_split(table, schema, data, asked.seed)
    split, follows, why_narrowed = examples.narrowed(table, schema, drawn_split, asked)
    schema, left_out = identifiers(table, schema, split.train, data, reading.rows)
    schema, own, rearranged = examples.arranged(table, schema, split.train, asked)
    before = {} if reading.beginning is None else reading.beginning.known(schema, table, split.train, data)
    learned = reading.needs_target or examples.learns_target or examples.ordered
    schema, oddities = schema.fit(
        table,
        split.train,
        data,
        known := {**own, **before},
        split.train if learned else np.arange(len(table)),
        inputs_needed=not examples.ordered,
    )
    if reading.drawn is None:  # of a larger source, other rows may hold the others
        refuse_unknown_labels(table, schema, data)
    return Columns(
        schema,
        split,
        drawn_split,
        encode_cached(schema, table),
        known,
        follows,
        findings=[*oddities, *left_out, *rearranged],
        decisions=[*how_split, *why_narrowed],
    )


def _chosen(
    source: object, settings: Mapping[str, Any], reading: Reading, columns: Columns
) -> tuple[Recipe, dict[str, str]]:
    """The complete recipe; and why this task and this network."""
    asked, drawn, beginning = reading.asked, reading.drawn, reading.beginning
    name, why_task = choose_task(columns.schema, asked.task)
    task = TASKS[name]
    blocks = task.blocks_of(columns.schema, asked.with_settings(columns.follows))
    begins = {} if beginning is None else beginning.network_settings(blocks, asked.network, task.answers)
    network, why_network = choose_network(blocks, begins.get("network.name", asked.network.name), task.answers)
    chosen = {**begins, **columns.follows, "target": reading.target, "task": name, "network.name": network}
    if asked.data.window:
        chosen["data.stride"] = asked.data.stride
    for key, one in (("source", source), ("test", reading.tests)):
        if isinstance(one, str | Path):
            chosen[key] = str(one)
    rows = len(columns.split.train)
    if drawn is not None:
        rows += drawn.rows - len(drawn.places)
        chosen["data.rows_in_memory"] = drawn.limit  # so that a repeat draws the same rows, whatever its memory
    forms: set[str] = {block.form for block in blocks}
    forms |= {"colours" for block in blocks if block.form == "pictures" and block.channels > 1}
    recipe = complete({**settings, **chosen}, forms=forms, rows=rows, task=name)
    return recipe, {"task": why_task, "network": why_network if beginning is None else beginning.told()}


def _odd(reading: Reading, schema: Schema, split: Split, encoded: Encoded) -> list[Finding]:
    """What the checks of rows find; a target that is not learned is none of their business."""
    if reading.examples.ordered:
        return []
    return run_checks(reading.table, schema if reading.needs_target else schema.without_targets(), split, encoded)


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
