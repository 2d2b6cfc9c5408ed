"""Sources that do not fit into memory: read chunk by chunk, and known by a sample of their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.data.checks.examined import MIXER, mix
from sounding.data.labelled import drop_unlabelled
from sounding.data.memory import available_memory
from sounding.data.schema import Field, Schema
from sounding.data.split import Split, moments
from sounding.data.table import Origin, Table
from sounding.errors import DataError, UserError
from sounding.finding import Finding
from sounding.kinds import Category, Image
from sounding.randomness import draw_seed
from sounding.recipe import DataRecipe

Rule = Callable[[Table], np.ndarray]

MOST_SAMPLED = 400_000
"""Rows from which everything but the weights is learned; their tenth measures an accuracy to half a percent."""
FEWEST_SAMPLED = 1000
SHARE_OF_MEMORY = 0.5
"""That the data may take: the network, its optimizer and the simple models need the rest."""
CHUNK_BYTES = 1 << 24
MOST_CHUNK_ROWS = 1 << 16
MEASURED_PICTURES = 20
"""From which is told how large pictures are when they are encoded."""


@dataclass(frozen=True)
class Stream:
    """Rows that are read chunk by chunk; each pass gives the same."""

    read: Callable[[int], Iterator[Table]]
    """Called with the rows of a chunk."""
    rows: int
    """About how many there are."""
    row_bytes: int
    """About how many bytes a row takes as it is read."""
    working_bytes: int
    """About how many bytes a row takes in all, if everything is held in memory."""

    def chunks(self) -> Iterator[Table]:
        """All rows."""
        return self.read(self.chunk_rows)

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk, whether as they are read or encoded."""
        return int(np.clip(CHUNK_BYTES // max(self.row_bytes, 1), 1, MOST_CHUNK_ROWS))

    def is_large(self, settings: DataRecipe) -> bool:
        """Whether it is to be streamed."""
        if settings.rows_in_memory:
            return self.rows > settings.rows_in_memory
        return self.rows * self.working_bytes > SHARE_OF_MEMORY * available_memory()

    def measured(self, settings: DataRecipe) -> Stream:
        """With the room that pictures take when they are encoded, told from the first ones."""
        first = next(self.read(MEASURED_PICTURES), None)
        if first is None:
            return self
        encoded = sum(_picture_bytes(first, name, settings) for name in first.columns)
        # Pictures are encoded in one piece, then gathered into those of each part.
        return replace(
            self,
            row_bytes=max(self.row_bytes, encoded),
            working_bytes=max(self.working_bytes, 2 * self.row_bytes + 3 * encoded),
        )

    def sampled_rows(self, settings: DataRecipe) -> int:
        """About how many rows are held in memory."""
        if settings.rows_in_memory:
            return settings.rows_in_memory
        fitting = int(SHARE_OF_MEMORY * available_memory() / 2) // max(self.working_bytes, 1)
        return int(np.clip(fitting, FEWEST_SAMPLED, MOST_SAMPLED))


def in_memory(table: Table, working: int) -> Stream:
    """The rows of a table, whose pictures may be larger than it is.

    working: bytes that are used for each byte of the table.
    """
    row_bytes = -(-table.data.nbytes // max(len(table), 1))

    def read(rows: int) -> Iterator[Table]:
        for at in range(0, len(table), rows):
            yield table.slice(at, at + rows)

    return Stream(read, len(table), row_bytes, working * row_bytes)


def _picture_bytes(table: Table, name: str, settings: DataRecipe) -> int:
    """About how many bytes the encoded picture of a row has; 0 for other columns."""
    column = table.column(name, settings)
    asked = settings.kinds.get(name)
    if name in settings.ignore or (asked != "image" if asked else Image.recognise(column) is None):
        return 0
    try:
        fitted, _ = Image.fit(column, np.arange(len(column)), settings)
    except UserError:  # whoever reads all pictures says what is wrong
        return 0
    return fitted.channels * fitted.height * fitted.width


@dataclass(frozen=True)
class Sample:
    """Some rows of a stream in memory, and which they are."""

    stream: Stream
    table: Table
    places: np.ndarray
    """(n,) int64: the row of the source of each row of the table, rising."""
    rows: int
    """All rows of the source."""
    limit: int
    """What `data.rows_in_memory` must be for the same rows to be drawn again."""
    target: Sequence[str]
    settings: DataRecipe

    def findings(self, stored: int, schema: Schema, split: Split) -> list[Finding]:
        """What was learned from the sample alone, and what is used for nothing.

        stored: rows that are trained on.
        """
        found = [
            Finding(
                rule="sampled",
                severity="info",
                title=f"more data than are held in memory: kinds, vocabularies, quantiles, checks and simple models "
                f"are from {len(self.table):,} of {self.rows:,} rows, drawn at random; the network is trained on "
                f"{stored:,}, read from disk",
                evidence={"rows": len(self.table), "of": self.rows, "trained": stored},
                meaning="A value so rare that the drawn rows lack it shares its code with unseen ones, and a copy or "
                "a leak in the other rows is not seen.",
            )
        ]
        unused = self.rows - stored - len(split.validation) - len(split.test)
        if unused > 0:
            found.append(
                Finding(
                    rule="rows-unused",
                    severity="info",
                    title=f"{unused:,} of {self.rows:,} rows are neither trained on nor held out",
                    evidence={"rows": unused, "of": self.rows},
                    meaning="They belong to validation or test (by their part, group or time) and are more than are "
                    "needed to measure, or have a label that the drawn training rows lack.",
                )
            )
        return found

    def key(self, schema: Schema, split: Split) -> str:
        """Everything that the encoded training rows depend on: cells, files that cells name, schema and split."""
        digest = hashlib.sha256(self.table.fingerprint().encode())
        digest.update(schema.encoding().encode())
        digest.update(self._held(split).tobytes())
        files = [
            field for field in schema.inputs if isinstance(field.fitted, Image) and field.column(self.table).is_text
        ]
        for _, chunk in _numbered(self.stream, self.target, self.settings) if files else ():
            for field in files:
                assert field.fitted is not None
                digest.update(field.fitted.stamp(field.column(chunk)).encode())
        return digest.hexdigest()

    def _held(self, split: Split) -> np.ndarray:
        """The rows of the source that validate or test, rising."""
        held = np.concatenate([split.validation, split.test])
        return np.sort(self.places[held[held < len(self.places)]])

    def training_chunks(self, schema: Schema, split: Split) -> Iterator[Table]:
        """The rows that are trained on: all but those that are held out, or belong to what is.

        schema, split: of the sample. Rows of a group that is held out, later than the first row that is held out, or
        with a label that the training rows of the sample lack, are left out.
        """
        held_places = self._held(split)
        held = np.flatnonzero(np.isin(self.places, held_places))
        rules = _rules(schema, self.table, held)
        for start, chunk in _numbered(self.stream, self.target, self.settings):
            kept = np.ones(len(chunk), dtype=bool)
            low, high = np.searchsorted(held_places, [start, start + len(chunk)])
            kept[held_places[low:high] - start] = False
            for part, rows in chunk.parts.items():
                kept[rows.start : rows.stop] &= part == "train"
            for rule in rules:
                kept &= rule(chunk)
            if kept.any():
                yield chunk.filter(kept)


def sample(stream: Stream, settings: DataRecipe, target: Sequence[str], seed: int) -> Sample:
    """Draw rows of a stream; whether a row is drawn is a function of the seed and of its place alone.

    Raises:
        DataError: for anything wrong in any chunk; if there is no row.
    """
    limit = min(stream.sampled_rows(settings), max(stream.rows - 1, 1))
    share = min(1.0, limit / max(stream.rows, 1))
    salt = np.uint64(draw_seed(seed, "sample"))
    digest, rows = hashlib.sha256(f"{seed} {share}".encode()), 0
    tables: list[Table] = []
    places: list[np.ndarray] = []
    for start, chunk in _numbered(stream, target, settings):
        digest.update(chunk.fingerprint().encode())
        numbers = np.arange(start, start + len(chunk), dtype=np.uint64)
        drawn = mix((numbers + np.uint64(1)) * MIXER[0] ^ salt) <= np.uint64(share * float(2**64 - 2048))
        tables.append(chunk.filter(drawn))
        places.append(numbers[drawn].astype(np.int64))
        rows += len(chunk)
    if not rows:
        raise DataError("there are no rows", "give a source with rows")
    return Sample(stream, _joined(tables, digest.hexdigest()), np.concatenate(places), rows, limit, target, settings)


def _numbered(stream: Stream, target: Sequence[str], settings: DataRecipe) -> Iterator[tuple[int, Table]]:
    """The chunks, each with the number of its first row; rows without target left out where the settings say so."""
    start = 0
    for chunk in stream.chunks():
        chunk, findings = drop_unlabelled(chunk, target or chunk.target, settings)
        yield start, replace(chunk, findings=(*chunk.findings, *findings))
        start += len(chunk)


def _joined(tables: Sequence[Table], fingerprint: str) -> Table:
    """One table of several, in which each rule is told once."""
    parts: dict[str, range] = {}
    origins: list[Origin] = []
    told: dict[str, list[Finding]] = {}
    start = 0
    for table in tables:
        for part, rows in table.parts.items():
            begin = parts[part].start if part in parts else start + rows.start
            parts[part] = range(begin, start + rows.stop)
        origins += [origin for origin in table.origins if origin.rows]
        for finding in table.findings:
            told.setdefault(finding.rule, []).append(finding)
        start += len(table)
    data = pa.concat_tables([table.data for table in tables], promote_options="permissive").unify_dictionaries()
    return replace(
        tables[0],
        data=data.combine_chunks(),
        origins=tuple(origins),
        parts=parts,
        findings=tuple(_once(findings) for findings in told.values()),
        stands_for=fingerprint,
    )


def _once(findings: Sequence[Finding]) -> Finding:
    """The first of several findings of a rule, which says how many chunks have more."""
    first, more = findings[0], len(findings) - 1
    if not more:
        return first
    title = f"{first.title} (and so in {more} more parts of the source)"
    return replace(first, title=title, evidence={**first.evidence, "more": more})


def _rules(schema: Schema, table: Table, held: np.ndarray) -> list[Rule]:
    """What decides for each row of a chunk whether it may be trained on."""
    rules: list[Rule] = []
    for field in schema.fields:
        if field.role == "group" and len(held):
            rules.append(partial(_of_no_group, field, field.column(table).take(held).words.unique()))
        if field.role == "time" and len(held):
            rules.append(partial(_before, field, float(moments(field.column(table).take(held)).min())))
        if field.role == "target" and isinstance(field.fitted, Category):
            rules.append(partial(_known, field, field.fitted))
    return rules


def _of_no_group(field: Field, groups: pa.Array, chunk: Table) -> np.ndarray:
    return ~np.asarray(pc.is_in(field.column(chunk).words, groups))


def _before(field: Field, moment: float, chunk: Table) -> np.ndarray:
    return moments(field.column(chunk)) < moment


def _known(field: Field, target: Category, chunk: Table) -> np.ndarray:
    return target.knows(field.column(chunk))
