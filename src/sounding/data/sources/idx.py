"""Folders with the IDX files of MNIST and the sets made like it.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats".
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from sounding.data.sources._files import read_bytes
from sounding.data.sources._parts import by_part
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

UNDERSTANDS = "a folder with IDX files as MNIST has them (train-images-idx3-ubyte, also .gz)"

_NAME = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
_UNSIGNED_BYTES = 8


def claims(source: object) -> bool:
    """Whether it is a folder with IDX files."""
    return isinstance(source, Path) and source.is_dir() and bool(_named(source))


def read(source: object, settings: DataRecipe) -> Table:
    """Columns `image` (uint8 of one shape) and `label` (whole numbers); both parts, if both are there."""
    assert isinstance(source, Path)
    files = _named(source)
    tables, names = [], []
    for part in ("train", "test"):
        images, labels = files.get((part, "images")), files.get((part, "labels"))
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            there = images or labels
            what = f"there are no {'images' if images is None else 'labels'} for this file"
            raise DataError(what, "put both files into the folder", file=there)
        tables.append(read_pair(images, labels))
        names.append(part)
    return by_part(tables, names if len(names) > 1 else [None], name=source.name, root=source)


def _named(folder: Path) -> dict[tuple[str, str], Path]:
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        if match := _NAME.fullmatch(path.name):
            found.setdefault(("train" if match[1] == "train" else "test", match[2]), path)
    return found


def read_pair(images: Path, labels: Path) -> Table:
    """Pictures and their labels."""
    pictures, classes = read_array(images), read_array(labels)
    if pictures.ndim != 3 or classes.ndim != 1:
        what = f"arrays of {pictures.ndim} and {classes.ndim} dimensions, not of 3 and 1"
        raise DataError(what, "give pictures and labels as MNIST has them", file=images)
    if len(pictures) != len(classes):
        what = f"{len(pictures):,} pictures, but {len(classes):,} labels"
        raise DataError(what, "give files that belong together", file=images)
    data = pa.table(
        {
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(pictures),
            "label": pa.array(classes.astype(np.int64)),
        }
    )
    return Table(data, images.parent.name, (Origin(str(images), len(pictures)),), target=("label",), notes=("IDX",))


def read_array(path: Path) -> np.ndarray:
    """The array in an IDX file: (N,) or (N, height, width) uint8.

    Raises:
        DataError: if it is no IDX file of bytes, or shorter or longer than its header says.
    """
    data = read_bytes(path)
    dimensions = data[3] if len(data) >= 4 else 0
    header = 4 + 4 * dimensions
    if data[:3] != bytes([0, 0, _UNSIGNED_BYTES]) or not dimensions or len(data) < header:
        raise DataError("the content is not IDX with unsigned bytes", "give the files as MNIST has them", file=path)
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=dimensions, offset=4))
    expected = int(np.prod(shape, dtype=object))
    if len(data) - header != expected:
        what = f"{len(data) - header:,} bytes, where the header says {' x '.join(map(str, shape))} = {expected:,}"
        raise DataError(what, "copy or download the file again", file=path)
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
