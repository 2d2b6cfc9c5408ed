"""NumPy arrays and PyTorch tensors: alone, as a pair (x, y), or in a dictionary by column name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from sounding.data.sources import frames
from sounding.data.sources._columns import check_names
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

UNDERSTANDS = "arrays or tensors: x, (x, y), or a dictionary of them"

_CHANNELS = (1, 3, 4)


def claims(source: object) -> bool:
    """Whether it is an array or a tensor, a pair, or a dictionary of columns."""
    if isinstance(source, tuple):
        return len(source) == 2
    return _is_array(source) or isinstance(source, Mapping)


def read(source: object, settings: DataRecipe) -> Table:
    """The table.

    (N,)                                         one column
    (N, D)                                       columns x0, x1, ...
    (N, H, W), (N, H, W, C) or (N, C, H, W)      uint8: one column `image`
    y, (N,) or (N, K)                            `target`, or target_0, target_1, ...

    Raises:
        DataError: for other shapes, for pictures that are not uint8, and for columns of different lengths.

    >>> table = read((np.zeros((4, 2)), np.array([0, 1, 0, 1])), DataRecipe())
    >>> table.columns, table.target
    (['x0', 'x1', 'target'], ('target',))
    """
    if isinstance(source, tuple):
        return _read_pair(source[0], source[1], settings)
    if isinstance(source, Mapping):
        columns: dict[str, pa.Array] = {}
        for name, value in source.items():
            columns |= _columns(value, str(name), f"{name}_")
        return _table(columns, settings)
    array = _numpy(source)
    return _table(_columns(array, "image" if array.ndim > 2 else "x", "x"), settings)


def _read_pair(x: object, y: object, settings: DataRecipe) -> Table:
    inputs = frames.read(x, settings) if frames.claims(x) else read(_sequence(x), settings)
    name = getattr(y, "name", None)
    name = name if isinstance(name, str) and name and name not in inputs.columns else "target"
    targets = frames.read(y, settings).data if frames.claims(y) else pa.table(_columns(_sequence(y), name, f"{name}_"))
    if len(targets) != len(inputs):
        raise DataError(f"x has {len(inputs):,} rows and y has {len(targets):,}", "give one y for each row of x")
    names = [*inputs.columns, *targets.column_names]
    check_names(names, settings, "arrays")
    data = pa.table([*inputs.data.columns, *targets.columns], names=names)
    return replace(inputs, data=data, target=tuple(targets.column_names))


def _sequence(value: object) -> Any:
    """Lists are taken as arrays where they stand beside one."""
    return np.asarray(value) if isinstance(value, list | tuple) else value


def _table(columns: dict[str, pa.Array], settings: DataRecipe) -> Table:
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        (first, size), *others = sizes.items()
        other, differing = next((name, count) for name, count in others if count != size)
        what = f'"{first}" has {size:,} rows and "{other}" has {differing:,}'
        raise DataError(what, "give columns of one length")
    rows = next(iter(sizes.values()), 0)
    if not rows:
        raise DataError("the arrays have 0 rows", "give at least one row")
    check_names(list(columns), settings, "arrays")
    return Table(pa.table(columns), "arrays", (Origin("arrays", rows),), notes=("arrays",))


def _is_array(value: object) -> bool:
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    return isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor))


def _numpy(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    if not _is_array(value):
        try:
            return np.asarray(value)
        except ValueError:  # lists of several lengths
            remedy = "give series as a column of a PyArrow table: pa.table({...})"
            raise DataError("lists of several lengths are no array", remedy) from None
    value = value.detach().cpu()
    if not value.dtype.is_floating_point:
        return np.asarray(value.numpy())
    return np.asarray((value if value.element_size() > 2 else value.float()).numpy())  # NumPy has no bfloat16


def _columns(value: Any, name: str, prefix: str) -> dict[str, pa.Array]:
    array = _numpy(value)
    if array.ndim == 1:
        return {name: _column(array, name)}
    if array.ndim == 2:
        return {f"{prefix}{i}": _column(array[:, i], f"{prefix}{i}") for i in range(array.shape[1])}
    if array.ndim in (3, 4):
        return {name: _pictures(array, name)}
    raise DataError(f"an array of {array.ndim} dimensions is no column", "give (N,), (N, D) or pictures", column=name)


def _column(array: np.ndarray, name: str) -> pa.Array:
    mask = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    values = np.ascontiguousarray(np.ma.getdata(array))
    if values.dtype.kind in "fiub" and not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype == np.longdouble and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    try:
        return pa.array(values, mask=mask)
    except (pa.ArrowException, TypeError) as error:
        what = f"values of type {values.dtype} are no column: {str(error).splitlines()[0]}"
        raise DataError(what, "give numbers, words or dates, of one type", column=name) from None


def _pictures(array: np.ndarray, name: str) -> pa.Array:
    if array.dtype != np.uint8:
        remedy = "give uint8 from 0 to 255, such as (x * 255).round().astype('uint8') for x from 0 to 1"
        raise DataError(f"pictures of type {array.dtype}", remedy, column=name)
    if array.ndim == 4 and array.shape[3] not in _CHANNELS:
        first, *sides, last = array.shape[1:]
        if first in _CHANNELS or 4 < first < min(*sides, last):
            array = array.transpose(0, 2, 3, 1)
        elif not 4 < last < min(first, *sides):  # 2 would be grey and transparency
            remedy = "give 1, 3, 4 or more channels, first or last, and fewer than pixels on a side"
            raise DataError(f"pictures of shape {array.shape} do not tell their channels", remedy, column=name)
    if not array.size:
        raise DataError(f"pictures of shape {array.shape} are empty", "give at least one", column=name)
    # by way of one row, or a single channel keeps the step it had as the second axis, and Arrow reads pixels by it
    plain = np.ascontiguousarray(array).reshape(-1).reshape(array.shape)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(plain)
