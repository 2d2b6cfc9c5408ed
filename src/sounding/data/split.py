"""Which rows train, which choose when to stop, and which measure the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.kinds.kind import Column
from sounding.randomness import generator
from sounding.recipe import DataRecipe

PARTS = ("train", "validation", "test")

MOST_COMBINATIONS = 32
"""Several answers at once are split by their combinations while there are no more of them than this."""


@dataclass(frozen=True)
class Split:
    """The rows of each part, ascending, as int64; no row is in two parts, and `train` is never empty."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """The rows by the name of their part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def sizes(self) -> dict[str, int]:
        """How many rows each part has."""
        return {name: len(rows) for name, rows in self.parts.items()}


def make_split(table: Table, schema: Schema, settings: DataRecipe, seed: int) -> tuple[Split, list[str]]:
    """Divide the rows, and say how it was done, one line for each decision.

    Parts that the source brings are kept; what is lacking is taken out of its training rows: the latest by time
    if there is a column of times, whole groups if there is a column of groups, every class in its share for a
    classification, else at random. The draw depends on the seed and on the rows, and on nothing else.

    Raises:
        DataError: if there are too few rows, groups or rows of a class, naming how many there are and are needed.
    """
    given = {name: np.arange(rows.start, rows.stop, dtype=np.int64) for name, rows in table.parts.items()}
    unknown = [name for name in given if name not in PARTS]
    if unknown:
        raise DataError(f'the part "{unknown[0]}" is not known', f"name parts {', '.join(PARTS)}", file=table.name)
    taken = np.zeros(len(table), dtype=bool)
    for name in ("validation", "test"):
        taken[given.get(name, [])] = True
    pool = np.flatnonzero(~taken)
    fractions = {
        name: fraction
        for name, fraction in (("test", settings.test), ("validation", settings.validation))
        if name not in given and fraction > 0
    }
    sizes = _sizes(len(pool), fractions, table.name)
    chosen, how = _choose(table, schema, settings, pool, sizes, generator(seed, "split"))
    drawn = {name: np.sort(pool[rows]) for name, rows in chosen.items()}
    for rows in drawn.values():
        taken[rows] = True
    notes = [f"{name} rows as given: {len(rows)}" for name, rows in given.items() if name != "train"]
    if drawn:
        named = " and ".join(f"{len(rows)} {name} rows" for name, rows in drawn.items() if name in PARTS)
        notes.append(f"{named} drawn {how}")
    parts = {**given, **drawn, "train": np.flatnonzero(~taken)}
    nothing = np.empty(0, dtype=np.int64)
    return Split(**{name: parts.get(name, nothing).astype(np.int64) for name in PARTS}), notes


def whole(table: Table) -> tuple[Split, list[str]]:
    """All rows to train with, and nothing to say of it: where something else divides them."""
    nothing = np.empty(0, dtype=np.int64)
    return Split(np.arange(len(table)), nothing, nothing), []


def _choose(
    table: Table,
    schema: Schema,
    settings: DataRecipe,
    pool: np.ndarray,
    sizes: dict[str, int],
    draw: np.random.Generator,
) -> tuple[dict[str, np.ndarray], str]:
    """For each part its places in the pool, and how they were found."""
    by_role = {field.role: field for field in schema.fields}
    if "time" in by_role:
        return _latest(by_role["time"].column(table).take(pool), sizes, settings.window)
    if "group" in by_role:
        return _whole_groups(by_role["group"].column(table).take(pool), sizes, draw)
    labels = _labels(table, schema, settings, pool)
    if labels is not None:
        return _stratified(labels, sizes, draw, table.name)
    order = draw.permutation(len(pool))
    bounds = np.cumsum([0, *sizes.values()])
    return {name: order[bounds[at] : bounds[at + 1]] for at, name in enumerate(sizes)}, "at random"


def _sizes(rows: int, fractions: dict[str, float], file: str) -> dict[str, int]:
    """How many rows each part takes: its fraction, and at least one."""
    wrong = [name for name, fraction in fractions.items() if fraction >= 1]
    if wrong or sum(fractions.values()) >= 1:
        shares = " and ".join(f"data.{name} = {fraction}" for name, fraction in fractions.items())
        raise DataError(f"{shares} leave no rows to train with", "give fractions that add up to less than 1", file=file)
    needed = len(fractions) + 1
    if rows < needed:
        parts = f"the {needed} parts ({', '.join(['train', *fractions])}) need {needed}" if fractions else "1 is needed"
        raise DataError(
            f"there {'is 1 row' if rows == 1 else f'are {rows} rows'} to divide, and {parts}",
            f"give {needed} rows or more",
            file=file,
        )
    sizes = {name: max(1, round(fraction * rows)) for name, fraction in fractions.items()}
    while sum(sizes.values()) >= rows:  # rounding up must leave a row to train with
        largest = max(sizes, key=lambda name: sizes[name])
        sizes[largest] -= 1
    return sizes


def _stratified(
    labels: np.ndarray, sizes: dict[str, int], draw: np.random.Generator, file: str
) -> tuple[dict[str, np.ndarray], str]:
    """Every class in its share in every part; a class never loses its last training row.

    labels: (rows,) int64 codes in [0, classes).
    """
    counts = np.bincount(labels)
    classes = len(counts)
    if sizes and len(labels) > 1 and counts.max() < 2:
        raise DataError(
            f"the target has {classes} different values in {len(labels)} rows, so no class has 2 rows",
            "a class needs 2 rows or more; is the target a column of identifiers? choose another, or "
            "--task regression for numbers",
            file=file,
        )
    order = draw.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, shuffled within
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    chosen, taken = {}, np.zeros(classes, dtype=np.int64)
    lottery = draw.random(classes)
    for name, size in sizes.items():
        share = _shares(counts, size, counts - taken - 1, lottery)
        chosen[name] = np.flatnonzero((rank >= taken[labels]) & (rank < (taken + share)[labels]))
        taken += share
    how = f"at random with every class in its share ({classes} classes)"
    rare = np.count_nonzero(counts <= len(sizes))
    if rare:
        how += f"; {rare} of them {'has' if rare == 1 else 'have'} fewer rows than there are parts, and train first"
    return chosen, how


def _shares(counts: np.ndarray, size: int, most: np.ndarray, lottery: np.ndarray) -> np.ndarray:
    """How many of `size` rows each class gives: its quota rounded, 1 at least where possible, `most` at most."""
    quota = counts * (size / counts.sum())
    share: np.ndarray = np.floor(quota).astype(np.int64)
    if len(counts) <= size:
        share = np.maximum(share, 1)
    share = np.minimum(share, most)
    remainder: np.ndarray = np.lexsort((lottery, share - quota))  # the largest remainders first, equal ones by lot
    while (lacking := size - int(share.sum())) > 0:
        able = remainder[(share < most)[remainder]][:lacking]
        if not len(able):
            break
        share[able] += 1
    while (over := int(share.sum()) - size) > 0:  # the extra rows of rare classes are given up by the common ones
        able = remainder[::-1][(share > 1)[remainder[::-1]]][:over]
        if not len(able):
            break
        share[able] -= 1
    return share


def _whole_groups(
    column: Column, sizes: dict[str, int], draw: np.random.Generator
) -> tuple[dict[str, np.ndarray], str]:
    """Groups in random order, each whole into the first part that it still fits into."""
    codes = _codes(column)
    groups = int(codes.max()) + 1
    if groups < len(sizes) + 1:
        raise column.error(
            f"there {'is 1 group' if groups == 1 else f'are {groups} groups'} for {len(sizes) + 1} parts "
            f"(train, {', '.join(sizes)})",
            f"{len(sizes) + 1} groups or more are needed; or leave data.group empty",
        )
    counts = np.bincount(codes)
    part = np.zeros(groups, dtype=np.int64)
    order = draw.permutation(groups)
    for at, size in enumerate(sizes.values(), start=1):
        free = order[part[order] == 0]
        most = len(free) - (len(sizes) - at + 1)  # a group stays for each of the parts to come, training included
        filled = 0
        for group in free:
            if filled + counts[group] <= size and most > 0:
                part[group] = at
                filled, most = filled + counts[group], most - 1
        if not filled:  # every group is larger than the part should be
            part[free[np.argmin(counts[free])]] = at
    chosen = {name: np.flatnonzero(part[codes] == at) for at, name in enumerate(sizes, start=1)}
    return chosen, f'by whole groups of "{column.name}" ({groups} groups)'


def _latest(column: Column, sizes: dict[str, int], window: int) -> tuple[dict[str, np.ndarray], str]:
    """The latest rows test, the latest of the others validate, and rows of one time are in one part.

    A part has its size as nearly as whole times allow.

    window: points of a row, where rows are windows and times their first points: windows of an earlier part that share
            a point with a later one are in none.

    Raises:
        DataError: where a row has no time, or nothing would be left to train with.
    """
    times = moments(column)
    gone = np.flatnonzero(np.isnan(times) if times.dtype.kind == "f" else np.zeros(len(times), dtype=bool))
    if len(gone):
        raise column.error(
            f"{len(gone)} rows have no time, so they have no place in the order",
            "fill them, or leave data.time empty",
            row=int(gone[0]),
        )
    order = np.argsort(times, kind="stable")
    values, counts = np.unique(times, return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])  # rows before each of the different times
    chosen, between, stop = dict[str, np.ndarray](), [order[:0]], len(values)
    names = [name for name in ("test", "validation") if name in sizes]
    for at, name in enumerate(names):
        begins = np.arange(len(names) - at, stop)  # a time stays for each of the parts to come, training included
        if not len(begins):
            raise _too_few(column, len(values), len(names), window)
        begin = int(begins[np.abs(before[stop] - before[begins] - sizes[name]).argmin()])
        chosen[name] = order[before[begin] : before[stop]]
        stop = int(np.searchsorted(values, values[begin] - window, side="right")) if window else begin
        between.append(order[before[stop] : before[begin]])
    if names and not stop:
        raise _too_few(column, len(values), len(names), window)
    first = {name: column.words[int(rows[0])].as_py() for name, rows in chosen.items()}
    since = " and ".join(f"{name} from {moment}" for name, moment in first.items())
    left_out = np.concatenate(between)
    apart = f"; {len(left_out)} windows before them, which share points with them, are in no part" if window else ""
    if window:
        chosen["between"] = left_out
    return chosen, f'by time: the latest in "{column.name}" ({since} on){apart}'


def _too_few(column: Column, times: int, parts: int, window: int) -> DataError:
    if window:
        what = f"{times} windows are too few: those that share points with a later part are left out, of {parts} parts"
        return DataError(what, "give more rows, or a shorter data.window")
    return column.error(
        f"there {'is 1 time' if times == 1 else f'are {times} different times'} for {parts + 1} parts",
        f"{parts + 1} times or more are needed; or leave data.time empty",
    )


def moments(column: Column) -> np.ndarray:
    """(N,) values that sort as the times do: numbers, or dates as written in ISO 8601; NaN where there is none.

    Raises:
        DataError: naming the first cell that is neither a number nor such a date.
    """
    cells = column.cells
    if pa.types.is_temporal(cells.type):
        values = cells.cast(pa.timestamp("us") if pa.types.is_date(cells.type) else cells.type).cast(pa.int64())
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    numbers = column.numbers
    if not np.isnan(numbers[column.present]).any():
        return numbers
    present = np.flatnonzero(column.present)
    words = np.asarray(column.words.take(pa.array(present)).to_numpy(zero_copy_only=False), dtype=str)
    try:
        parsed = words.astype("datetime64[us]")
    except ValueError:
        bad = next(row for row, word in zip(present, words, strict=True) if not _is_moment(word))
        raise column.error(
            f'"{column.words[int(bad)].as_py()}" is no time',
            "write numbers or dates such as 2024-07-31",
            row=int(bad),
        ) from None
    values = np.full(len(column), np.nan)
    values[present] = parsed.astype(np.int64)
    return values


def _is_moment(word: str) -> bool:
    try:
        np.datetime64(word)
    except ValueError:
        return False
    return True


def _labels(table: Table, schema: Schema, settings: DataRecipe, pool: np.ndarray) -> np.ndarray | None:
    """(rows,) codes of the classes to keep in their shares, or none where targets are no categories."""
    targets = schema.targets
    if not targets or any(field.kind != "category" for field in targets):
        return None
    columns = [field.column(table) for field in targets]
    if any(pa.types.is_nested(column.cells.type) for column in columns):
        return None
    codes = _combined([_codes(column.take(pool), settings.labels) for column in columns])
    several = len(targets) > 1 and len(codes) and codes.max() >= MOST_COMBINATIONS
    return None if several else codes


def _codes(column: Column, labels: dict[str, str] | None = None) -> np.ndarray:
    """(N,) int64: equal values have equal codes; no value is a value of its own."""
    words = column.words
    for old, new in (labels or {}).items():
        words = pc.if_else(pc.fill_null(pc.equal(words, old), False), new, words)
    encoded = pc.dictionary_encode(words, null_encoding="encode")
    return np.asarray(encoded.indices, dtype=np.int64)


def _combined(codes: Sequence[np.ndarray]) -> np.ndarray:
    if len(codes) == 1:
        return codes[0]
    return np.unique(np.stack(codes, 1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
