"""What every kind of column in the registry promises."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image as Pillow

from sounding.errors import DamagedError, DataError
from sounding.kinds import KINDS, Column, Kind, recognise
from sounding.recipe import DataRecipe

ROWS = 40
TRAIN = np.arange(25)
SETTINGS = DataRecipe()
DTYPES = {
    "numbers": np.float32,
    "categories": np.int32,
    "tokens": np.int32,
    "pictures": np.uint8,
    "series": np.float32,
    "sound": np.int16,
    "boxes": np.float32,
}


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _mask(seed: int) -> bytes:
    codes = np.random.default_rng(seed).integers(0, 3, (6, 5), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(codes).save(file, "PNG")
    return file.getvalue()


def _wav(seed: int) -> bytes:
    file = io.BytesIO()
    wave = np.random.default_rng(seed).normal(0, 0.1, 200 + 7 * (seed % 20))
    soundfile.write(file, wave, 8000, "PCM_16", format="WAV")
    return file.getvalue()


def _boxes(seed: int) -> list[dict[str, object]]:
    draw = np.random.default_rng(seed)
    return [
        {"label": "red green blue".split()[number], "left": x, "top": y, "right": x + 9.0, "bottom": y + 4.0}
        for number, (x, y) in enumerate(draw.uniform(0, 90, (1 + seed % 3, 2)).tolist())
    ]


# typical cells of each kind; a new kind adds one line
CELLS: dict[str, Callable[[], pa.Array]] = {
    "number": lambda: pa.array([None if n % 7 == 3 else f"{n * n / 3:.3f}" for n in range(ROWS)]),
    "category": lambda: pa.array([None if n % 7 == 3 else "red green blue".split()[n % 3] for n in range(ROWS)]),
    "text": lambda: pa.array([f"row {n} of many says: it is {n % 5}, not {n % 3}!" for n in range(ROWS)]),
    "image": lambda: pa.array([_png(n) for n in range(ROWS)]),
    "audio": lambda: pa.array([_wav(n) for n in range(ROWS)]),
    "series": lambda: pa.array([[float(n * k % 7), 1.0, None, n / 3] for n, k in enumerate(range(3, 3 + ROWS))]),
    "passage": lambda: pa.array([f"\x1crow {n} runs on, {n % 5} of {n % 3}" for n in range(ROWS)]),
    "boxes": lambda: pa.array([_boxes(n) for n in range(ROWS)]),
    "mask": lambda: pa.array([_mask(n) for n in range(ROWS)]),
    "date": lambda: pa.array([str(datetime(2020, 1, 1) + timedelta(hours=31 * n)) for n in range(ROWS)]),
}


def column(cells: pa.Array) -> Column:
    return Column("x", cells, frozenset(SETTINGS.missing), None, lambda row: ("x.csv", row + 2))


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cells(name: str) -> pa.Array:
    return CELLS[name]()


@pytest.fixture
def kind(name: str, cells: pa.Array) -> Kind:
    return KINDS[name].fit(column(cells), TRAIN, SETTINGS)[0]


def test_is_recognised_with_a_reason(name: str, cells: pa.Array) -> None:
    found, reason = recognise(column(cells))
    assert found == ("image" if name == "mask" else name)  # a mask is a picture that is to be predicted
    assert reason


def test_encodes_every_row_in_its_form(kind: Kind, cells: pa.Array) -> None:
    encoded, _ = kind.encode(column(cells))
    assert len(encoded) == ROWS
    assert encoded.dtype == DTYPES[kind.form]
    block = kind.block("x")
    if block.form == "numbers":
        assert encoded.shape == (ROWS, len(block.features))
        assert len(block.bins) == len(block.features)
        assert all((np.diff(np.float32(edges)) > 0).all() and len(edges) > 1 for edges in block.bins)
        assert np.isfinite(encoded).all()
        assert np.abs(encoded).max() < 10
    elif block.form == "categories":
        assert encoded.shape == (ROWS,)
        assert encoded.min() >= 0
        assert encoded.max() < block.cardinalities[0]
    elif block.form == "tokens":
        tokens, pieces = (encoded[..., 0], encoded[..., 1:]) if block.piece_buckets else (encoded, encoded[:, :0])
        assert tokens.shape == (ROWS, block.length)
        assert tokens.min() >= 0
        assert tokens.max() < block.vocabulary_size
        assert (tokens[:, 0] > 0).all()  # padding only at the end, and no row is empty
        assert (np.diff((tokens == 0).astype(int), axis=1) >= 0).all()
        assert pieces.min(initial=0) >= 0
        assert pieces.max(initial=0) < max(block.piece_buckets, 1)
    elif block.form == "boxes":
        assert encoded.shape == (ROWS, block.length, 5)
        assert set(np.unique(encoded[..., 0])) == {-1.0, *map(float, range(len(block.features)))}
    elif block.form == "sound":
        assert encoded.shape == (ROWS, block.length)
        assert block.rate == 8000
    else:
        size = (block.height, block.width) if block.form == "pictures" else (block.length,)
        assert encoded.shape == (ROWS, block.channels, *size)
        assert np.isfinite(encoded).all()
        assert len(block.mean) == len(block.std) == block.channels
        assert min(block.std) > 0


def test_json_keeps_everything(kind: Kind, cells: pa.Array) -> None:
    again = type(kind).from_json(json.loads(json.dumps(kind.to_json(), allow_nan=False)))
    assert again == kind
    assert again.block("x") == kind.block("x")
    assert np.array_equal(again.encode(column(cells))[0], kind.encode(column(cells))[0])


@pytest.mark.parametrize("damage", ["unknown", "missing", "nothing"])
def test_damaged_json_is_refused(kind: Kind, damage: str) -> None:
    values = kind.to_json()
    if damage == "unknown":
        values = {**values, "surprise": 1}
    elif damage == "missing":
        values.popitem()
    with pytest.raises(DamagedError):
        type(kind).from_json(None if damage == "nothing" else values)  # type: ignore[arg-type]


def test_learns_from_training_rows_alone(kind: Kind, cells: pa.Array) -> None:
    elsewhere = cells.take(pa.array([*TRAIN, *([0] * (ROWS - len(TRAIN)))]))
    assert type(kind).fit(column(elsewhere), TRAIN, SETTINGS)[0] == kind


def test_each_row_is_encoded_by_itself(kind: Kind, cells: pa.Array) -> None:
    whole, _ = kind.encode(column(cells))
    order = np.random.default_rng(0).permutation(ROWS)
    shuffled, _ = kind.encode(column(cells.take(pa.array(order))))
    assert np.array_equal(shuffled, whole[order])
    single, _ = kind.encode(column(cells.slice(5, 1)))
    assert np.array_equal(single[0], whole[5])


def test_a_missing_cell_is_encoded_or_named(kind: Kind, cells: pa.Array) -> None:
    nothing = column(pa.nulls(2, cells.type))
    if kind.form in ("pictures", "series", "sound", "boxes"):
        with pytest.raises(DataError, match=r'^x.csv:2 \(column "x"\)'):
            kind.encode(nothing)
    else:
        assert len(kind.encode(nothing)[0]) == 2


def test_no_rows_are_no_error(kind: Kind, cells: pa.Array) -> None:
    assert len(kind.encode(column(cells.slice(0, 0)))[0]) == 0


def test_describes_and_shows(kind: Kind, cells: pa.Array) -> None:
    assert kind.describe()
    shown = kind.show(column(cells), 1)
    assert isinstance(shown, str) or (shown.dtype == np.uint8 and shown.ndim == 3)
