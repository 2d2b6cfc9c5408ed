"""Tables whose rows are interactions of a user with an item: which columns speak of whom, and what is known of both."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.data.schema import Field, Schema
from sounding.data.sources import read_source
from sounding.data.split import Split, moments
from sounding.data.table import Table
from sounding.errors import DataError, RecipeError, nearest
from sounding.finding import Finding
from sounding.kinds import Category, Kind
from sounding.networks import NETWORKS
from sounding.recipe import Recipe
from sounding.tasks.examples import Examples

READ = ("number", "category", "date")
"""Kinds of column that say something of users and items."""
NAMING = 0.5
"""Categories with more values than this share of the users, or items, only name them again."""


class Interactions(Examples):
    """Rows are interactions: all are read, and columns stand in the order of whom they speak of."""

    learns_target: ClassVar[bool] = True

    def settled(self, asked: Recipe) -> Recipe:
        """What follows from rows that are interactions: users and items are words, and all rows are read."""
        keys = dict.fromkeys(keys_of(asked).values(), "category")
        targets = dict.fromkeys(asked.target, "number")
        kinds = {**targets, **asked.data.kinds, **keys}
        if len(keys) < 2:
            raise RecipeError(f'recommendation.user and recommendation.item are both "{next(iter(keys))}"', "name two")
        if len(asked.target) > 1:
            raise RecipeError(f"{len(asked.target)} targets are named, and a rating is one", "name one, or none")
        if asked.recommendation.feedback == "explicit" and not asked.target:
            raise RecipeError("explicit feedback needs a rating", "give --target, or recommendation.feedback=implicit")
        if reads_histories(asked) and not asked.data.time:
            what = f'"{asked.network.name}" reads what users met in order of time, and no column tells the time'
            raise RecipeError(what, "set data.time")
        # Who met what is asked of all rows, also of those that a sample would leave out.
        return asked.with_settings({"data.kinds": kinds, "data.rows_in_memory": sys.maxsize})

    def gathered(self, table: Table, asked: Recipe) -> Table:
        """The table, with the columns of users and items that stand in sources of their own.

        Raises:
            DataError: if a column of users or items is lacking, empty in some row, or not unique in its own source.
        """
        for side, key in keys_of(asked).items():
            if key not in table.columns:
                hint = f"{nearest(key, table.columns)}; or set recommendation.{side}"
                raise DataError(f'there is no column "{key}" of {side}s', hint, file=table.name)
            column = table.column(key, asked.data)
            if not column.present.all():
                row = int((~column.present).argmax())
                raise column.error(
                    f"there is no {side} in this row", "every interaction has a user and an item", row=row
                )
            path = getattr(asked.recommendation, f"{side}s")
            if path:
                table = _joined(table, read_source(path, asked.data), key, asked)
        return table

    def narrowed(
        self, table: Table, schema: Schema, split: Split, recipe: Recipe
    ) -> tuple[Split, dict[str, Any], list[str]]:
        """By the last interactions of users, where that is asked for; no part repeats what an earlier one holds."""
        why = []
        if recipe.recommendation.split == "last":
            split, told = last_of_each(table, schema, split, recipe)
            why.append(told)
        split, told_more = without_repeats(table, schema, split, recipe)
        feedback = "implicit" if is_implicit(schema, recipe) else "explicit"
        return split, {"recommendation.feedback": feedback}, [*why, *told_more]

    def arranged(
        self, table: Table, schema: Schema, rows: np.ndarray, asked: Recipe
    ) -> tuple[Schema, dict[str, Kind], list[Finding]]:
        """The schema with the columns of users first, then those of items; each side begins with its own key.

        A column speaks of a user, or an item, if all training rows of that user, or item, hold the same value. What
        speaks of neither is left out: nothing is known of it when an item is to be recommended.
        """
        keys = keys_of(asked)
        known: dict[str, Kind] = {}
        codes: dict[str, np.ndarray] = {}
        for side, key in keys.items():
            column = schema[key].column(table)
            settings = replace(asked.data, rare=1, max_categories=sys.maxsize)
            known[key] = Category.fit(column, rows, settings)[0]
            codes[side] = known[key].encode(column.take(rows))[0]
        sides: dict[str, list[Field]] = {side: [replace(schema[key], side=side)] for side, key in keys.items()}
        others: list[Field] = []
        reasons: dict[str, str] = {}
        by_evidence = sorted(keys, key=lambda side: int(codes[side].max(initial=0)))
        for field in schema.fields:
            if field.name in keys.values():
                continue
            if field.role != "input":
                others.append(field)
                continue
            values = _values(table, field, rows)
            side = next((side for side in by_evidence if _determines(codes[side], values)), "")
            why = _why_left_out(field, side, values, codes)
            if why:
                reasons[field.name] = why
                others.append(replace(field, role="ignored", reason=why))
            else:
                sides[side].append(replace(field, side=side))
        findings = [
            Finding(
                rule="not-of-user-or-item",
                severity="info",
                title=f'"{name}" is left out: {why}',
                evidence={"column": name},
            )
            for name, why in reasons.items()
        ]
        return Schema((*sides["user"], *sides["item"], *others)), known, findings


def keys_of(recipe: Recipe) -> dict[str, str]:
    """The columns of users and items."""
    return {"user": recipe.recommendation.user, "item": recipe.recommendation.item}


def _joined(table: Table, other: Table, key: str, asked: Recipe) -> Table:
    """A left join by a key that is unique on the right."""
    if key not in other.columns:
        raise DataError(f'there is no column "{key}" to join by', nearest(key, other.columns), file=other.name)
    words = other.column(key, asked.data)
    if words.number_of_values < len(other):
        counted = pc.value_counts(words.words.drop_null())
        several = [str(one["values"]) for one in counted if one["counts"].as_py() > 1]
        what = f'"{several[0]}" stands in more than one row' if several else "a row has no value"
        raise DataError(f'{what} of the column "{key}"', "give each one row", file=other.name)
    clash = sorted(set(other.columns) & set(table.columns) - {key})
    if clash:
        raise DataError(f'the column "{clash[0]}" is in {table.name}, too', "rename one of the two", file=other.name)
    places = pc.index_in(table.column(key, asked.data).words, value_set=words.words)
    data = table.data
    for name in other.columns:
        if name != key:
            data = data.append_column(name, other.data.column(name).combine_chunks().take(places))
    missing = int(places.null_count)
    findings = list(table.findings)
    if missing:
        findings.append(
            Finding(
                rule="rows-without-match",
                severity="info",
                title=f'{missing} of {len(table)} interactions have a "{key}" that is not in {other.name}',
                evidence={"column": key, "rows": missing, "of": len(table)},
                meaning="What is told there is missing for them.",
            )
        )
    notes = (*table.notes, f'{other.name}: {len(other.columns) - 1} columns joined by "{key}"')
    return replace(table, data=data, findings=tuple(findings), notes=notes)


def _values(table: Table, field: Field, rows: np.ndarray) -> np.ndarray:
    """(rows,) codes of the values of a column; equal cells have equal codes."""
    column = field.column(table).take(rows)
    if not column.is_word:
        return np.arange(len(rows))
    return np.asarray(pc.dictionary_encode(column.words, null_encoding="encode").indices, dtype=np.int64)


def _determines(codes: np.ndarray, values: np.ndarray) -> bool:
    """Whether rows of equal codes have equal values."""
    first = np.zeros(int(codes.max(initial=0)) + 1, dtype=np.int64)
    first[codes[::-1]] = values[::-1]
    return bool((first[codes] == values).all())


def _why_left_out(field: Field, side: str, values: np.ndarray, codes: Mapping[str, np.ndarray]) -> str:
    if not side:
        return "it is told of neither users nor items, but of single interactions"
    if field.kind not in READ:
        return f"{field.kind} of {side}s is not read"
    count = len(np.unique(codes[side]))
    if field.kind == "category" and len(np.unique(values)) > NAMING * count:
        return f"it names nearly every {side} another way"
    return ""


def names_of(table: Table, schema: Schema, key: str) -> dict[str, str]:
    """What users, or items, are called in a column that names nearly each of them another way; empty if none does."""
    rows = np.arange(len(table))
    codes = _values(table, schema[key], rows)
    first = np.unique(codes, return_index=True)[1]
    words = schema[key].column(table).words.take(first).to_pylist()
    for field in schema.fields:
        if field.role != "ignored" or field.name not in table.columns or not field.column(table).is_text:
            continue
        values = _values(table, field, rows)
        if _determines(codes, values) and len(np.unique(values)) > NAMING * len(first):
            called = field.column(table).words.take(first).to_pylist()
            return {word: name for word, name in zip(words, called, strict=True) if name}
    return {}


def last_of_each(table: Table, schema: Schema, split: Split, asked: Recipe) -> tuple[Split, str]:
    """Of each user with three interactions or more the last one tests, and the one before it validates.

    Raises:
        RecipeError: without a column of times, or where the source brings its own parts.
    """
    if not asked.data.time:
        raise RecipeError('recommendation.split is "last", and no column tells the time', "set data.time")
    if table.parts:
        raise RecipeError('recommendation.split is "last", and test rows are given', "leave out --test, or the split")
    times = moments(schema[asked.data.time].column(table))
    users = _values(table, schema[asked.recommendation.user], np.arange(len(table)))
    order = np.lexsort((times, users))
    of, counts = np.unique(users, return_counts=True)
    ends = np.cumsum(counts)[counts >= 3]
    parts = [np.sort(order[ends - back]) for back in (1, 2)]
    rest = np.ones(len(table), dtype=bool)
    rest[np.concatenate(parts)] = False
    why = f"of {len(ends)} of {len(of)} users the last interaction tests, the one before it validates"
    return Split(np.flatnonzero(rest), parts[1], parts[0]), why


def without_repeats(table: Table, schema: Schema, split: Split, asked: Recipe) -> tuple[Split, list[str]]:
    """Parts without interactions that an earlier part holds already: what was seen is not recommended again."""
    rows = np.arange(len(table))
    users, items = (_values(table, schema[key], rows) for key in keys_of(asked).values())
    pairs = users * (int(items.max(initial=0)) + 1) + items
    _, first = np.unique(pairs[split.train], return_index=True)
    train = split.train[np.sort(first)]
    seen, parts = pairs[train], {}
    for name in ("validation", "test"):
        own = split.parts[name]
        _, first = np.unique(pairs[own], return_index=True)
        own = own[np.sort(first)]
        parts[name] = own[~np.isin(pairs[own], seen)]
        seen = np.concatenate([seen, pairs[parts[name]]])
    left = Split(train, parts["validation"], parts["test"])
    gone = {name: len(split.parts[name]) - len(left.parts[name]) for name in left.parts}
    told = [f"{count} of the {name} rows" for name, count in gone.items() if count]
    return left, [f"{' and '.join(told)} repeat an interaction and are left out"] if told else []


def with_columns(table: Table, schema: Schema) -> tuple[Table, frozenset[str]]:
    """A table with empty columns where inputs are lacking, and of which sides all columns but the key are lacking."""
    data, lacking = table.data, set()
    for side in ("user", "item"):
        names = [field.name for field in schema.inputs if field.side == side]
        absent = [name for name in names if name not in table.columns]
        if set(names[1:]) <= set(absent):
            lacking.add(side)
        for name in absent:
            data = data.append_column(name, pa.nulls(len(table), pa.string()))
    return replace(table, data=data), frozenset(lacking)


def is_implicit(schema: Schema, recipe: Recipe) -> bool:
    """Whether users are known by what they chose, not by what they said of it."""
    return recipe.recommendation.feedback == "implicit" or not schema.targets


def reads_histories(recipe: Recipe) -> bool:
    """Whether the network reads what users met, in order of time."""
    family = NETWORKS.get(recipe.network.name)
    return family is not None and family.answers == "next_items"
