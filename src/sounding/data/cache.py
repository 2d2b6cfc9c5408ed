"""Encoded columns kept on disk, so that the second run on the same data starts at once and reads them memory-mapped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pooch

from sounding.data.schema import Schema
from sounding.data.table import Table
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


def _key(schema: Schema, table: Table) -> str:
    digest = hashlib.sha256(f"{VERSION}\n{table.fingerprint()}\n".encode())
    digest.update(json.dumps(schema.to_json(), sort_keys=True).encode())
    for field in schema.inputs:
        if field.fitted is not None and field.name in table.columns:
            digest.update(field.fitted.stamp(field.column(table)).encode())
    return digest.hexdigest()


def _read(place: Path) -> Encoded | None:
    """The arrays in a folder, memory-mapped; none where something is missing or damaged, and that is removed."""
    if not place.is_dir():
        return None
    try:
        stated, _, text = (place / "manifest.json").read_text(encoding="utf-8").partition("\n")
        if stated != hashlib.sha256(text.encode()).hexdigest():
            raise ValueError(f"the manifest of {place} is damaged")
        manifest = json.loads(text)
        blocks = {block["name"]: _array(place, block) for block in manifest["blocks"]}
        findings = tuple(Finding.from_json(values) for values in manifest["findings"])
        os.utime(place)
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(place, ignore_errors=True)
        return None
    return Encoded(blocks, findings)


def _array(place: Path, block: dict[str, Any]) -> np.ndarray:
    path = place / f"{int(block['file'])}.npy"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != block["sha256"]:
            raise ValueError(f"{path} is damaged")
    # Copy on write: PyTorch warns about arrays that it may not write to, and nothing reaches the file.
    array: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def _write(encoded: Encoded, place: Path) -> None:
    """Write the arrays into a temporary folder, and rename it when all is there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=place.parent))
    try:
        blocks = []
        for number, (name, array) in enumerate(encoded.blocks.items()):
            path = temporary / f"{number}.npy"
            np.save(path, array, allow_pickle=False)
            with path.open("rb") as file:
                blocks.append({"name": name, "file": number, "sha256": hashlib.file_digest(file, "sha256").hexdigest()})
        text = json.dumps({"blocks": blocks, "findings": [finding.to_json() for finding in encoded.findings]})
        stated = hashlib.sha256(text.encode()).hexdigest()
        (temporary / "manifest.json").write_text(f"{stated}\n{text}", encoding="utf-8")
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
