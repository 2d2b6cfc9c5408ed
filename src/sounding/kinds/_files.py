"""What pictures and recordings share: files under the folder of the data, or their bytes, read in threads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

import pyarrow as pa
import pyarrow.compute as pc

from sounding.errors import Problems
from sounding.kinds.kind import Column


class RefusedError(Exception):
    """Why a file is not used: what is wrong, and what to do."""


def for_each(
    column: Column,
    read: Callable[[int, Path | bytes], object],
    noun: str,
    unreadable: tuple[type[BaseException], ...],
) -> None:
    """Call `read` with each row and its file, in several threads: decoders work without the interpreter lock.

    noun:        what a file is called: `picture`.
    unreadable:  what the decoder raises on damaged files.

    Raises:
        DataError: naming every file that cannot be read.
    """
    problems = Problems()
    root = None if column.root is None else column.root.resolve()

    def attempt(item: tuple[int, str | None, bytes | None]) -> tuple[int, str, str] | None:
        row, path, data = item
        shown = f'"{path}"' if path is not None else f"the {noun}"
        try:
            read(row, data if data is not None else _inside(root, path, noun))
        except RefusedError as refusal:
            what, remedy = refusal.args
            return row, f"{shown} {what}", remedy
        except unreadable as error:
            reason = "it is too short" if "truncated" in str(error) else str(error) or type(error).__name__
            return (
                row,
                f"{shown} is damaged and cannot be decoded ({reason})",
                "replace it, or remove this row",
            )
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for failure in pool.map(attempt, _cells(column)):
            if failure is not None:
                row, what, remedy = failure
                problems.add(column.error(what, remedy, row=row))
    problems.raise_if_any()


def stamp(column: Column) -> str:
    """Size and time of change of every file, so that one that has changed is read again."""
    if not column.is_text or column.root is None:
        return ""
    digest = hashlib.sha256(str(column.root.resolve()).encode())
    for path in column.words.drop_null().to_pylist():
        try:
            facts = os.stat(column.root / path)
        except (OSError, ValueError):
            continue
        digest.update(f"{facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def acceptable(source: Path | bytes, most_bytes: int, nouns: str) -> None:
    """See that there is something in a file, and not too much.

    Raises:
        RefusedError: with its size.
    """
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise RefusedError("is empty (0 bytes)", "replace it, or remove this row")
    if size > most_bytes:
        raise RefusedError(f"has {size / 1e6:.0f} MB", f"{nouns} may have {most_bytes / 1e6:.0f} MB at most")


def beginning(source: Path | bytes) -> bytes:
    """The first bytes of a file, which say what it is."""
    if isinstance(source, bytes):
        return source[:512]
    with source.open("rb") as file:
        return file.read(512)


def _cells(column: Column) -> Iterator[tuple[int, str | None, bytes | None]]:
    """Row, path and bytes of each cell."""
    cells = column.plain
    nothing: Iterable[None] = (None for _ in range(len(cells)))
    if pa.types.is_struct(cells.type):
        names = [part.name for part in cells.type]
        paths = (cell.as_py() for cell in pc.struct_field(cells, "path")) if "path" in names else nothing
        data = (cell.as_py() for cell in pc.struct_field(cells, "bytes")) if "bytes" in names else nothing
    elif column.is_text:
        paths, data = (cell.as_py() for cell in column.words), nothing
    else:
        paths, data = nothing, (cell.as_py() for cell in cells)
    for row, (path, content) in enumerate(zip(paths, data, strict=True)):
        yield row, path, content


def _inside(root: Path | None, path: str | None, noun: str) -> Path:
    """The file of a path, which must lie in the folder of the data."""
    if path is None or not path.strip():
        raise RefusedError("is missing", f"name a {noun}, or remove this row")
    if "://" in path:
        raise RefusedError("is an address on the network", f"bring the {noun} into the folder of the data")
    if root is None:
        raise RefusedError("is a path, and these data have no folder to look in", "give a file or folder as the source")
    if (
        "\0" in path
        or PurePosixPath(path).is_absolute()
        or PureWindowsPath(path).anchor
        or ".." in PureWindowsPath(path).parts
    ):
        raise RefusedError("leads out of the folder of the data", "use paths relative to it, without ..")
    try:
        file = (root / path).resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise RefusedError(f"does not exist in {root}", "correct the path, or remove this row") from None
    if not file.is_relative_to(root):
        raise RefusedError("leads out of the folder of the data", "use paths in it, without links to elsewhere")
    if not file.is_file():
        raise RefusedError("is not a regular file", f"name a {noun}")
    return file
