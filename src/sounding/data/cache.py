"""Encoded columns kept on disk: a second run on the same data starts at once, and large data never fill the memory."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pooch

from sounding.data.schema import Schema
from sounding.data.stored import StoredArray
from sounding.data.table import Table
from sounding.errors import DamagedError, UserError
from sounding.finding import Finding
from sounding.kinds import Encoded

VERSION = 1
"""Of the encoding; raised when a kind encodes differently, so that nothing old is used."""
WORTH_SECONDS = 1.0
"""Encoding that takes less is not worth the disk."""
LIMIT_GIGABYTES = 20.0
"""What is kept at most, unless SOUNDING_CACHE_GIGABYTES says otherwise; what was not used for longest goes first."""
ABANDONED_SECONDS = 24 * 3600
"""A temporary folder older than this was left by a process that was killed."""


def cache_folder() -> Path:
    """Where encoded columns are kept: `$SOUNDING_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("SOUNDING_CACHE") or pooch.os_cache("sounding")) / "encoded"


def encode_cached(schema: Schema, table: Table, folder: Path | None = None) -> Encoded:
    """`schema.encode(table)`, from the cache where it is there and undamaged.

    It is kept when encoding took more than a second. The key is everything the arrays depend on: every cell, size
    and time of change of every file that a cell names, the fitted schema, and the version of the encoding.
    """
    folder = folder or cache_folder()
    place = folder / _key(schema, table)
    found = _read(place)
    if found is not None:
        return found
    began = time.perf_counter()
    encoded = schema.encode(table)
    if time.perf_counter() - began > WORTH_SECONDS:
        try:
            _write(encoded, place)
            _drop_oldest(folder, keep=place)
        except OSError:  # a full or read-only disk: the run goes on with the arrays in memory
            return encoded
        return _read(place) or encoded
    return encoded


def store_rows(
    key: str, chunks: Callable[[], Iterable[Mapping[str, np.ndarray]]], folder: Path | None = None
) -> dict[str, StoredArray]:
    """Named arrays written to disk a chunk of rows at a time, or found there from an earlier run.

    key:     says everything that the arrays depend on, beside the version of the encoding.
    chunks:  called where the arrays are not there yet; each chunk has the same names, types and shapes of rows.

    Of several processes on one machine, one writes and the others wait for it.

    Raises:
        UserError: if the disk is full or may not be written to.
    """
    folder = folder or cache_folder()
    place = folder / hashlib.sha256(f"{VERSION} rows\n{key}".encode()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{place.name}.lock"):
            found = _read_rows(place)
            if found is None:
                _write_rows(chunks(), place)
                _drop_oldest(folder, keep=place)
                found = _read_rows(place)
    except OSError as error:
        raise UserError(
            f"the encoded rows cannot be kept in {folder}: {error.strerror}",
            "set SOUNDING_CACHE to a folder with room",
        ) from None
    if found is None:
        raise DamagedError("what was just written is not what is read", "check the disk", file=place)
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only one process at a time comes past; the system lifts the lock of one that is killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # the file stays: others may be waiting for it


def _read_rows(place: Path) -> dict[str, StoredArray] | None:
    """The arrays in a folder; none where something is missing or damaged, and that is removed."""
    if not place.is_dir():
        return None
    try:
        arrays = {}
        for entry in _manifest(place)["arrays"]:
            path = place / f"{int(entry['file'])}.npy"
            array = StoredArray(path)
            with path.open("rb") as file:
                file.seek(array.offset)
                same = hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]
            if not same or list(array.shape) != entry["shape"] or array.dtype.str != entry["type"]:
                raise ValueError(f"{path} is damaged")
            arrays[str(entry["name"])] = array
        os.utime(place)
    except (OSError, ValueError, KeyError, TypeError, DamagedError):
        shutil.rmtree(place, ignore_errors=True)
        return None
    return arrays


def _write_rows(chunks: Iterable[Mapping[str, np.ndarray]], place: Path) -> None:
    with _written(place) as temporary:
        writers: dict[str, _Writer] = {}
        try:
            for chunk in chunks:
                for number, (name, rows) in enumerate(chunk.items()):
                    if name not in writers:
                        writers[name] = _Writer(temporary / f"{number}.npy", rows)
                    writers[name].append(rows)
            entries = [{"name": name, "file": at, **writer.end()} for at, (name, writer) in enumerate(writers.items())]
        finally:
            for writer in writers.values():
                writer.file.close()
        _write_manifest(temporary, {"arrays": entries})


class _Writer:
    """A `.npy` file that grows; its header is written again at the end, when the number of rows is known.

    The hash is that of the values alone, which is known while they are written.
    """

    def __init__(self, path: Path, like: np.ndarray) -> None:
        self.shape, self.type, self.rows = like.shape[1:], like.dtype, 0
        self.digest = hashlib.sha256()
        self.file: BinaryIO = path.open("wb")
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """Write some more rows."""
        if rows.shape[1:] != self.shape or rows.dtype != self.type:
            raise ValueError(f"rows of {rows.dtype} {rows.shape[1:]} after rows of {self.type} {self.shape}")
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        self.file.write(data)
        self.digest.update(data)
        self.rows += len(rows)

    def end(self) -> dict[str, Any]:
        """Write the header, and answer with what the manifest says of the file."""
        self.file.seek(0)
        self._write_header()
        self.file.flush()
        os.fsync(self.file.fileno())
        return {"shape": [self.rows, *self.shape], "type": self.type.str, "sha256": self.digest.hexdigest()}

    def _write_header(self) -> None:
        # NumPy leaves room for the first axis to grow, so that the header stays as long as it is.
        header = {"descr": self.type.str, "fortran_order": False, "shape": (self.rows, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)


def _key(schema: Schema, table: Table) -> str:
    digest = hashlib.sha256(f"{VERSION}\n{table.fingerprint()}\n".encode())
    digest.update(schema.encoding().encode())
    for field in schema.inputs:
        if field.fitted is not None and field.name in table.columns:
            digest.update(field.fitted.stamp(field.column(table)).encode())
    return digest.hexdigest()


def _read(place: Path) -> Encoded | None:
    """The arrays in a folder, memory-mapped; none where something is missing or damaged, and that is removed."""
    if not place.is_dir():
        return None
    try:
        manifest = _manifest(place)
        blocks = {block["name"]: _array(place, block) for block in manifest["blocks"]}
        findings = tuple(Finding.from_json(values) for values in manifest["findings"])
        os.utime(place)
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(place, ignore_errors=True)
        return None
    return Encoded(blocks, findings)


def _manifest(place: Path) -> Any:
    """What a folder says of its files.

    Raises:
        ValueError: if it is damaged.
    """
    stated, _, text = (place / "manifest.json").read_text(encoding="utf-8").partition("\n")
    if stated != hashlib.sha256(text.encode()).hexdigest():
        raise ValueError(f"the manifest of {place} is damaged")
    return json.loads(text)


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest)
    stated = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(f"{stated}\n{text}", encoding="utf-8")


def _array(place: Path, block: dict[str, Any]) -> np.ndarray:
    path = place / f"{int(block['file'])}.npy"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != block["sha256"]:
            raise ValueError(f"{path} is damaged")
    # Copy on write: PyTorch warns about arrays that it may not write to, and nothing reaches the file.
    array: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def _write(encoded: Encoded, place: Path) -> None:
    with _written(place) as temporary:
        blocks = []
        for number, (name, array) in enumerate(encoded.blocks.items()):
            path = temporary / f"{number}.npy"
            np.save(path, array, allow_pickle=False)
            with path.open("rb") as file:
                blocks.append({"name": name, "file": number, "sha256": hashlib.file_digest(file, "sha256").hexdigest()})
        _write_manifest(temporary, {"blocks": blocks, "findings": [finding.to_json() for finding in encoded.findings]})


@contextmanager
def _written(place: Path) -> Iterator[Path]:
    """A temporary folder that gets its name when all is there, and is removed if that does not come."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=place.parent))
    try:
        yield temporary
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _drop_oldest(folder: Path, keep: Path) -> None:
    """Remove what was not used for longest until the rest fits, and what a killed process left."""
    limit = float(os.environ.get("SOUNDING_CACHE_GIGABYTES", LIMIT_GIGABYTES)) * 1e9
    places = sorted((place for place in folder.iterdir() if place.is_dir()), key=lambda place: place.stat().st_mtime)
    for place in places:
        if place.name.startswith(".writing-") and time.time() - place.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(place, ignore_errors=True)
    sizes = {place: sum(file.stat().st_size for file in place.iterdir()) for place in places if place.exists()}
    for place in places:
        if sum(sizes.values()) <= limit:
            return
        if place != keep and not place.name.startswith(".writing-") and place in sizes:
            shutil.rmtree(place, ignore_errors=True)
            del sizes[place]
