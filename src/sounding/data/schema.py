"""The columns of a table, what each is and does, and what was learned about it from the training rows alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal, Self, get_args

import numpy as np
import pyarrow.compute as pc

from sounding.data.table import Table
from sounding.errors import DamagedError, DataError, Problems, RecipeError, UserError, nearest
from sounding.finding import Finding, Remedy
from sounding.kinds import (
    KINDS,
    TARGETS,
    Block,
    Category,
    Column,
    Encoded,
    Kind,
    Target,
    fitted_from_json,
    recognise,
)
from sounding.kinds.number import numbers_in
from sounding.recipe import DataRecipe

Role = Literal["input", "target", "weight", "group", "time", "ignored"]

VERSION = 1
"""Of the JSON form; raised when an older Sounding could not read it."""
FEW = 20
"""A target of whole numbers with no more values than this is taken for classes."""
UNNAMED = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
"""What an exported row number is called."""


@dataclass(frozen=True)
class Field:
    """One column: what it is, what it does, and why."""

    name: str
    kind: str
    role: Role
    reason: str
    """In words that are printed: `16 values`."""
    missing: tuple[str, ...] = ()
    """Strings that mean "no value" in this column."""
    fitted: Kind | None = None
    """What was learned from the training rows; none before that, and for columns that are neither input nor target."""
    side: str = ""
    """`user` or `item` where the rows are interactions, and this column speaks of one of the two."""

    def column(self, table: Table) -> Column:
        """This column of a table."""
        return table.column(self.name, DataRecipe(missing=list(self.missing), missing_in={}))


@dataclass(frozen=True)
class Schema:
    """Every column of a table, in order. Training, prediction and serving share it.

    >>> import numpy as np, pyarrow as pa
    >>> table = Table(pa.table({"age": ["39", "17", "51"], "income": ["high", "low", "high"]}), "people.csv")
    >>> schema = Schema.infer(table, DataRecipe(), target=["income"])
    >>> [(field.name, field.kind, field.role) for field in schema.fields]
    [('age', 'number', 'input'), ('income', 'category', 'target')]
    >>> schema, findings = schema.fit(table, np.arange(3), DataRecipe())
    >>> schema.encode(table).blocks["numbers"].shape
    (3, 1)
    >>> schema.encode_targets(table)["income"]
    array([0, 1, 0])
    """

    fields: tuple[Field, ...]

    @classmethod
    def infer(cls, table: Table, settings: DataRecipe, target: Sequence[str], target_kind: str = "") -> Schema:
        """What each column is, by looking at its cells, and what it does, by the settings.

        target_kind: what a target is, where the task leaves no choice; else what it looks like.

        Raises:
            DataError: naming every asked-for column that is not there and every column that no kind understands.
            RecipeError: for a kind that does not exist.
        """
        problems = Problems()
        for error in _unknown_names(table, settings, target):
            problems.add(error)
        problems.raise_if_any()
        roles: dict[str, Role] = dict.fromkeys(set(table.aside) - set(settings.keep), "ignored")
        roles |= dict.fromkeys(settings.ignore, "ignored")
        roles |= {settings.weight: "weight", settings.group: "group", settings.time: "time"}
        roles |= dict.fromkeys(target, "target")
        fields = []
        for name in table.columns:
            column = table.column(name, settings)
            role = roles.get(name, "input") if name else "input"
            try:
                fields.append(_field(column, role, settings, target_kind))
            except UserError as error:
                problems.add(error)
        problems.raise_if_any()
        return cls(tuple(fields))

    def __getitem__(self, name: str) -> Field:
        """The field of a column.

        Raises:
            DataError: if there is none, naming the nearest.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise DataError(f'there is no column "{name}"', nearest(name, [field.name for field in self.fields]))

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields that a network sees."""
        return self._in_role("input")

    @property
    def targets(self) -> tuple[Field, ...]:
        """The fields to predict."""
        return self._in_role("target")

    def _in_role(self, role: Role) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.role == role)

    def without_targets(self) -> Schema:
        """The same, without the columns that are not learned."""
        return Schema(tuple(field for field in self.fields if field.role != "target"))

    def ignoring(self, reasons: Mapping[str, str]) -> Schema:
        """The same, with some inputs left out, each for a reason that is printed."""
        return Schema(
            tuple(
                replace(field, role="ignored", reason=reasons[field.name], fitted=None)
                if field.role == "input" and field.name in reasons
                else field
                for field in self.fields
            )
        )

    def fit(
        self,
        table: Table,
        train_rows: np.ndarray,
        settings: DataRecipe,
        known: Mapping[str, Kind] | None = None,
        labelled_rows: np.ndarray | None = None,
        *,
        inputs_needed: bool = True,
    ) -> tuple[Schema, list[Finding]]:
        """Learn from the training rows alone: vocabularies, classes, quantiles, sizes.

        known:         what was learned elsewhere, by column; it is taken as it is.
        labelled_rows: those that tell the labels of a target that is not learned but only measures; the training rows
                       when left out.
        inputs_needed: whether there is nothing to learn from without an input.

        Raises:
            DataError: naming every column that cannot be used, or if no input is left.
        """
        problems = Problems()
        findings = list(_index_findings(self))
        fields, lost = [], {}
        for field in self.fields:
            fitted = field
            if field.role in ("input", "target") and field.name in (known or {}):
                fitted = replace(field, fitted=(known or {})[field.name])
            elif field.role in ("input", "target"):
                column = field.column(table)
                try:
                    rows = train_rows if field.role == "input" or labelled_rows is None else labelled_rows
                    fitted, notes = _fit(field, column, rows, settings)
                except UserError as error:
                    problems.add(error)
                    continue
                findings += notes
                if fitted.role == "input" and field.kind != "text" and column.lost:
                    lost[field.name] = column.lost
            fields.append(fitted)
        problems.raise_if_any()
        if lost:
            findings.append(_missing_finding(lost, {field.name: field.kind for field in fields}))
        schema = Schema(tuple(fields))
        if inputs_needed and not schema.inputs:
            raise DataError(
                "no column is left to learn from",
                "see the findings, or name columns in data.keep",
                file=table.name,
            )
        return schema, findings

    def encode(self, table: Table) -> Encoded:
        """The input columns as arrays, by the name of their block; other columns make no difference.

        numbers (N, features) float32; categories (N, columns) int32; text:NAME (N, length) or
        (N, length, 1 + pieces) int32; image:NAME (N, channels, height, width) uint8.

        Raises:
            DataError: naming every missing column, or file, line and column of cells that cannot be read.
        """
        lacking = [f'"{field.name}"' for field in self.inputs if field.name not in table.columns]
        if lacking:
            raise DataError(
                f"the column{'s' if len(lacking) > 1 else ''} {', '.join(lacking)} of the training data "
                f"{'are' if len(lacking) > 1 else 'is'} not here",
                f"there are: {', '.join(table.columns[:20])}",
                file=table.name,
            )
        problems, findings = Problems(), list(self._extra(table))
        parts: dict[str, list[np.ndarray]] = {}
        for field, kind, block in self._fitted_inputs():
            try:
                array, notes = kind.encode(field.column(table))
            except UserError as error:
                problems.add(error)
                continue
            parts.setdefault(block.name, []).append(array if array.ndim > 1 else array[:, None])
            findings += notes
        problems.raise_if_any()
        blocks = {
            name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1) for name, arrays in parts.items()
        }
        return Encoded(blocks, tuple(findings))

    def encode_targets(self, table: Table) -> dict[str, np.ndarray]:
        """Each target: (N,) int64 codes of classes, standardised float64, texts, boxes, or masks.

        Raises:
            DataError: naming the first missing, infinite or unknown value of each target.
        """
        problems, targets = Problems(), {}
        for field in self.targets:
            try:
                targets[field.name] = _target(field).encode_target(field.column(table))
            except UserError as error:
                problems.add(error)
        problems.raise_if_any()
        return targets

    def has_targets(self, table: Table) -> np.ndarray:
        """(N,) bool: the rows that have a value in every target."""
        present = np.ones(len(table), dtype=bool)
        for field in self.targets:
            present &= field.column(table).present
        return present

    def encode_weight(self, table: Table) -> np.ndarray | None:
        """(N,) float64: the weight of each row, at least 0, or none when no column has that role.

        Raises:
            DataError: naming the first weight that is missing, negative or infinite.
        """
        for field in self._in_role("weight"):
            column = field.column(table)
            weight = column.numbers
            bad = ~(np.isfinite(weight) & (weight >= 0))
            if bad.any():
                raise column.error(
                    f"{bad.sum()} weights are missing, negative or infinite, here the first",
                    "give every row a weight of 0 or more",
                    row=int(bad.argmax()),
                )
            return weight
        return None

    def blocks(self) -> list[Block]:
        """What a network needs to know of its inputs, in the order of the columns; numbers and categories joined."""
        joined: dict[str, list[Block]] = {}
        for _, _, block in self._fitted_inputs():
            joined.setdefault(block.name, []).append(block)
        return [reduce(Block.beside, blocks) for blocks in joined.values()]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values that `from_json` understands."""
        return {
            "version": VERSION,
            "fields": [
                {
                    "name": field.name,
                    "kind": field.kind,
                    "role": field.role,
                    "reason": field.reason,
                    "missing": list(field.missing),
                    "fitted": field.fitted.to_json() if field.fitted else None,
                    **({"side": field.side} if field.side else {}),
                }
                for field in self.fields
            ],
        }

    def encoding(self) -> str:
        """JSON of all that encoded values depend on: not the words that say why a column is what it is."""
        fields = [{key: value for key, value in one.items() if key != "reason"} for one in self.to_json()["fields"]]
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            DamagedError: if this is no schema, or one of a newer version.
        """
        try:
            if values["version"] != VERSION:
                raise DamagedError(
                    f"the schema has version {values['version']}, this Sounding reads version {VERSION}",
                    "use the version of Sounding that wrote it",
                )
            return cls(tuple(_field_from_json(field) for field in values["fields"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"this is no schema ({error!r})", "take it from the run folder again") from None

    def _fitted_inputs(self) -> Iterator[tuple[Field, Kind, Block]]:
        for field in self.inputs:
            if field.fitted is None:
                raise ValueError(f"column {field.name!r} is not fitted; call schema.fit first")
            block = field.fitted.block(field.name)
            if field.side:
                block = replace(block, name=f"{field.side}:{block.name}", side=field.side)
            yield field, field.fitted, block

    def _extra(self, table: Table) -> Iterator[Finding]:
        extra = sorted(set(table.columns) - {field.name for field in self.fields})
        if extra:
            named = ", ".join(f'"{name}"' for name in extra[:10]) + (", ..." if len(extra) > 10 else "")
            yield Finding(
                rule="extra-columns",
                severity="info",
                title=f"{len(extra)} column{'s' if len(extra) > 1 else ''} not in the training data: {named}; ignored",
                evidence={"columns": extra},
            )


def _unknown_names(table: Table, settings: DataRecipe, target: Sequence[str]) -> Iterator[UserError]:
    """An error for each column that is asked for and not there, and each kind that does not exist."""
    asked = dict.fromkeys(target, "target")
    for key in ("ignore", "keep", "kinds", "missing_in"):
        asked |= dict.fromkeys(getattr(settings, key), f"data.{key}")
    for key in ("weight", "group", "time"):
        if name := getattr(settings, key):
            asked[name] = f"data.{key}"
    for name, where in asked.items():
        if name not in table.columns:
            yield DataError(f'there is no column "{name}" ({where})', nearest(name, table.columns), file=table.name)
    for name, kind in settings.kinds.items():
        if kind not in KINDS:
            yield RecipeError(f'data.kinds.{name}: there is no kind "{kind}"', nearest(kind, KINDS))
    taken = {settings.weight, settings.group, settings.time, *settings.ignore} & set(target)
    for name in sorted(taken):
        yield RecipeError(f'"{name}" is the target and cannot have another role', "name another column")


def _field(column: Column, role: Role, settings: DataRecipe, target_kind: str) -> Field:
    """What one column is."""
    missing = tuple(sorted(column.missing))
    asked = settings.kinds.get(column.name)
    if role == "ignored":
        why = "as the settings say" if column.name in settings.ignore else "it only describes the rows"
        return Field(column.name, asked or "", role, why, missing)
    if role == "input" and column.name not in settings.keep and UNNAMED.fullmatch(column.name) and _counts_up(column):
        return Field(column.name, "number", "ignored", "a nameless column that counts the rows", missing)
    if role == "target":
        kind, reason = _target_kind(column, asked or "", target_kind)
    elif asked is not None:
        kind, reason = asked, "as the settings say"
    else:
        kind, reason = recognise(column)
    return Field(column.name, kind, role, reason, missing)


_AS_TARGET = {kind.looks_like: name for name, kind in TARGETS.items() if kind.looks_like}


def _target_kind(column: Column, asked: str, of_task: str) -> tuple[str, str]:
    """What a target is of the kinds that can be predicted, and why."""
    wanted, why = asked or of_task, "as the settings say" if asked else "as the task asks"
    if not column.is_word:
        kind, reason = recognise(column)
        kind = _AS_TARGET.get(kind, kind)
        if kind in TARGETS and wanted in ("", kind):
            return kind, reason
        raise column.error(
            f"cells of type {column.cells.type} cannot be predicted",
            "name a column of numbers or words as the target",
        )
    if asked and asked not in TARGETS:
        raise RecipeError(f'data.kinds.{column.name}: a target cannot be "{asked}"', f"take {', '.join(TARGETS)}")
    if wanted:
        return wanted, why
    kind, reason = recognise(column)
    if _AS_TARGET.get(kind, kind) != kind:
        return _AS_TARGET[kind], reason
    if kind != "number":
        return "category", f"{len(column.frequencies[0])} labels"
    values = np.unique(numbers_in(column)[0][column.present])
    if len(values) == 2:
        return "category", f"two values, {_join(values)}"
    if len(values) <= FEW and len(values) * 3 <= len(column) and bool((values == np.round(values)).all()):
        return "category", f"{len(values)} whole numbers"
    return "number", reason


def _join(values: np.ndarray) -> str:
    return " and ".join(f"{value:g}" for value in values)


def _counts_up(column: Column) -> bool:
    """Whether the cells are n, n + 1, n + 2, ..."""
    values = column.numbers
    return len(values) > 0 and bool(np.isfinite(values).all()) and bool((np.diff(values) == 1).all())


def _fit(field: Field, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Field, list[Finding]]:
    """A field with what the training rows teach about it; ignored when they all hold the same."""
    if field.role == "target":
        kind, findings = TARGETS[field.kind].fit_target(column, rows, settings)
        return replace(field, fitted=kind), findings
    if field.name not in settings.keep and (same := _same(column.take(rows), field)):
        return replace(field, role="ignored", reason=same), [
            Finding(
                rule="constant-column",
                severity="info",
                title=f'"{field.name}" is left out: {same}',
                evidence={"column": field.name},
                remedy=Remedy("use it all the same", {"data.keep": [*settings.keep, field.name]}),
            )
        ]
    fitted, findings = KINDS[field.kind].fit(column, rows, settings)
    as_words = field.kind == "text" or (isinstance(fitted, Category) and not fitted.spellings)
    if as_words and field.name not in settings.kinds:
        seen = column.take(rows)
        nearly = [kind.near_miss(seen) for kind in KINDS.values()]
        findings = [*(finding for finding in nearly if finding is not None), *findings]
    return replace(field, fitted=fitted), findings


def _same(column: Column, field: Field) -> str:
    """Why the training rows of a column teach nothing, if they all hold the same."""
    if not column.present.any():
        return "it has no value in any training row"
    if not column.is_word or not column.present.all() or field.kind in ("image", "audio"):
        return ""
    first = column.words[0].as_py()
    if pc.all(pc.equal(column.words, first)).as_py():
        shown = first if len(first) <= 40 else f"{first[:40]}..."
        return f'it is "{shown}" in every training row'
    return ""


def _index_findings(schema: Schema) -> Iterator[Finding]:
    for field in schema.fields:
        if field.role == "ignored" and field.reason.startswith("a nameless column"):
            yield Finding(
                rule="index-column",
                severity="warning",
                title=f'the column "{field.name}" only counts the rows, as an exported index does: left out',
                evidence={"column": field.name},
                remedy=Remedy("use it all the same", {"data.keep": [field.name]}),
            )


def _missing_finding(lost: dict[str, dict[str, int]], kinds: Mapping[str, str]) -> Finding:
    """Which strings were read as "no value"; a warning where they could be names of categories."""
    doubtful = [name for name, words in lost.items() if kinds[name] == "category" and any(map(str.isalpha, words))]
    listed = "; ".join(
        f'"{name}": ' + ", ".join(f'{count} x "{word}"' for word, count in words.items())
        for name, words in list(lost.items())[:6]
    ) + (f"; and in {len(lost) - 6} more columns" if len(lost) > 6 else "")
    example = doubtful[0] if doubtful else next(iter(lost))
    return Finding(
        rule="missing-values",
        severity="warning" if doubtful else "info",
        title=f"read as no value: {listed}",
        evidence={"columns": lost},
        remedy=Remedy("keep such strings as values", {f"data.missing_in.{example}": [""]}),
    )


def _target(field: Field) -> Target:
    if not isinstance(field.fitted, Target):
        raise ValueError(f"target {field.name!r} is not fitted; call schema.fit first")
    return field.fitted


def _field_from_json(values: dict[str, Any]) -> Field:
    kind, role, fitted = values["kind"], values["role"], values["fitted"]
    if role not in get_args(Role):
        raise DamagedError(f'the schema has an unknown role "{role}"', nearest(str(role), get_args(Role)))
    if fitted is not None and kind not in KINDS:
        raise DamagedError(f'the schema has an unknown kind "{kind}"', nearest(str(kind), KINDS))
    return Field(
        str(values["name"]),
        str(kind),
        role,
        str(values["reason"]),
        tuple(map(str, values["missing"])),
        None if fitted is None else fitted_from_json(kind, fitted),
        str(values.get("side", "")),
    )
