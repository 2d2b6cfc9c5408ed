from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from sounding.data.sources import read_source
from sounding.errors import DataError
from sounding.recipe import DataRecipe

PICTURES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
LABELS = np.array([7, 0, 7], dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    """Source: the description of the format by LeCun et al.: two zeros, type, dimensions, sizes (big-endian), data."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def write(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_both_parts_are_read(tmp_path: Path, ending: str) -> None:
    write(tmp_path, f"train-images-idx3-ubyte{ending}", idx(PICTURES))
    write(tmp_path, f"train-labels-idx1-ubyte{ending}", idx(LABELS))
    write(tmp_path, f"t10k-images-idx3-ubyte{ending}", idx(PICTURES[:2]))
    write(tmp_path, f"t10k-labels-idx1-ubyte{ending}", idx(LABELS[:2]))
    table = read_source(tmp_path, DataRecipe())
    assert dict(table.parts) == {"train": range(0, 3), "test": range(3, 5)}
    pictures = table.column("image", DataRecipe()).cells.to_numpy_ndarray()
    assert (pictures == np.concatenate([PICTURES, PICTURES[:2]])).all()
    assert pictures.dtype == np.uint8
    assert table.data["label"].to_pylist() == [7, 0, 7, 7, 0]


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (idx(PICTURES)[:-1], idx(LABELS), "23 bytes, where the header says 3 x 2 x 4 = 24"),
        (idx(PICTURES) + b"x", idx(LABELS), "25 bytes"),
        (idx(PICTURES), idx(LABELS[:2]), "3 pictures, but 2 labels"),
        (b"\0\0\x0d" + idx(PICTURES)[3:], idx(LABELS), "not IDX with unsigned bytes"),
        (b"\0\0\x08\x03\0", idx(LABELS), "not IDX"),
        (b"\0\0\x08\x03" + b"\xff" * 12, idx(LABELS), "4294967295 x 4294967295 x 4294967295"),
        (idx(LABELS), idx(LABELS), "not of 3 and 1"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, images: bytes, labels: bytes, says: str) -> None:
    write(tmp_path, "train-images-idx3-ubyte", images)
    write(tmp_path, "train-labels-idx1-ubyte", labels)
    with pytest.raises(DataError, match=says):
        read_source(tmp_path, DataRecipe())


def test_labels_that_are_absent_are_said(tmp_path: Path) -> None:
    write(tmp_path, "train-images-idx3-ubyte", idx(PICTURES))
    with pytest.raises(DataError, match="no labels for this file"):
        read_source(tmp_path, DataRecipe())
