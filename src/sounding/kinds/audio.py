"""Recordings: files under the folder of the data, encoded bytes, or samples; all end at one rate, on one channel."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.errors import DataError, UserError
from sounding.finding import Finding, Severity
from sounding.kinds._files import RefusedError, acceptable, beginning, for_each, stamp
from sounding.kinds.kind import SILENCE, Block, Column, Form, Kind, Recognition
from sounding.recipe import DataRecipe

NAMED_LIKE_RECORDINGS = r"(?i)\.(wav|wave|flac|ogg|oga|opus|mp3|aiff?|au|m4a|aac|wma|amr)$"
"""The last four are not opened: such rows meet an error that says so, instead of being taken for words."""
FORMATS = "WAV, FLAC, OGG, MP3, AIFF"
MOST_BYTES = 1 << 30
MOST_TOGETHER = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
"""Bytes of all recordings, each padded to the longest: half of the memory of this machine."""
HIGHEST_RATE = 16_000
"""Samples a second, unless `data.sound_rate` asks for more: speech loses nothing above 8 kHz that tells it apart."""
LARGEST = 32_767
CLIPPED = 0.001
"""The share of samples at full scale from which on a recording counts as clipped."""
SILENT = 32
"""Of 32,768: a recording that is nowhere louder, 60 dB below full scale, counts as silent."""
LONG = 10
"""Times the median: a recording that is longer makes all others wait for it."""
MAGIC = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"FORM", b".snd")
"""How files with recordings begin."""
UNKNOWN_SIZES = (0, 0xFFFFFFFF)
"""What stands for the size in the header of a WAV that was written as a stream."""


@dataclass(frozen=True)
class Audio(Kind):
    """A recording, as int16 samples at one rate: several channels are averaged, other rates resampled by soxr.

    Shorter recordings end with `SILENCE`, a value that no sample has; those that are longer than all training rows are
    kept to their end.
    """

    name: ClassVar[str] = "audio"
    form: ClassVar[Form] = "sound"

    rate: int
    """Samples a second."""
    shortest: int
    """Samples of the shortest training recording, at that rate."""
    length: int
    """Samples of the longest."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Names that end as those of recordings do, bytes that begin like them, or samples with their rate."""
        kind = column.plain.type
        if pa.types.is_struct(kind):
            names = {part.name for part in kind}
            if {"array", "sampling_rate"} <= names:
                return Recognition(1.0, "decoded recordings")
            if {"bytes", "path"} & names and _are_recordings(column.plain):
                return Recognition(1.0, "encoded recordings")
        if (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)) and _begin_like_recordings(column.plain):
            return Recognition(0.95, "encoded recordings")
        if column.is_text and column.present.any():
            named = pc.match_substring_regex(column.words.drop_null(), NAMED_LIKE_RECORDINGS)
            if pc.mean(named.cast(pa.float64())).as_py() >= 0.9:
                return Recognition(0.95, "paths of recordings")
        return None

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Choose the rate that most training recordings have, 16 kHz at most, and note the shortest and the longest.

        Raises:
            DataError: naming every recording in the column that cannot be opened.
        """
        headers = np.zeros((len(rows), 3), dtype=np.int64)  # frames, rate, channels

        def read(row: int, source: Path | bytes | dict[str, Any]) -> None:
            headers[row] = _header(source)

        try:
            _for_each(column.take(rows), read)
        except DataError:
            cls(HIGHEST_RATE, 0, 1).encode(column)  # names what is wrong in all rows, behind the headers, too
            raise
        frames, rates, channels = headers.T
        rate = settings.sound_rate or min(Counter(rates.tolist()).most_common(1)[0][0], HIGHEST_RATE)
        samples = -(-frames * rate // rates)
        kind = cls(rate, int(samples.min()), int(samples.max()))
        return kind, [*_mixed(column, rates, channels, rate), *_long(column, samples, rate)]

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, longest) int16, `SILENCE` behind the last sample of each.

        Raises:
            DataError: naming every recording that cannot be read, with its line; or if together they are too large.
        """
        recordings: list[np.ndarray] = [np.empty(0, np.int16)] * len(column)

        def read(row: int, source: Path | bytes | dict[str, Any]) -> None:
            recordings[row] = self._resampled(*_decoded(source))

        _for_each(column, read)
        lengths = np.array([len(one) for one in recordings], dtype=np.int64)
        longest = max(self.length, int(lengths.max(initial=0)), 1)
        if len(column) * longest * 2 > MOST_TOGETHER:
            row = int(lengths.argmax()) if len(column) else 0
            raise column.error(
                f"recordings as long as this one, {longest / self.rate:,.0f} s, would together take "
                f"{len(column) * longest * 2 / 1e9:,.0f} GB",
                "cut it into pieces, leave it out, or set a lower data.sound_rate",
                row=row,
            )
        samples = np.full((len(column), longest), SILENCE, dtype=np.int16)
        for row, one in enumerate(recordings):
            samples[row, : len(one)] = one
        return samples, [*_empty(column, lengths), *_clipped(column, recordings), *_silent(column, recordings)]

    def block(self, column: str) -> Block:
        """A block of its own."""
        return Block(f"audio:{column}", self.form, (column,), length=self.length, rate=self.rate)

    def describe(self) -> str:
        """Durations and rate."""
        low, high = self.shortest / self.rate, self.length / self.rate
        seconds = f"{low:.3g} to {high:.3g} s" if low < high else f"{low:.3g} s"
        return f"recordings of {seconds}, {self.rate:,} samples a second"

    def show(self, column: Column, row: int) -> str:
        """How long it is."""
        return f"a recording of {len(self.samples(column, row)) / self.rate:.2f} s"

    def samples(self, column: Column, row: int) -> np.ndarray:
        """(L,) int16: one recording as the network hears it."""
        padded = self.encode(column.take(np.array([row])))[0][0]
        return np.asarray(padded[padded != SILENCE])

    def stamp(self, column: Column) -> str:
        """Size and time of change of every file, so that a changed recording is read again."""
        return stamp(column)

    def _resampled(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """(L,) int16 at the rate of this kind, from (L, channels) int16 or float in [-1, 1]."""
        if rate == self.rate and samples.dtype == np.int16 and samples.shape[1] == 1:
            return np.asarray(np.maximum(samples[:, 0], -LARGEST))
        if samples.dtype == np.int16:
            samples = samples / np.float32(32768)
        wave = samples.mean(axis=1, dtype=np.float32)
        if rate != self.rate and len(wave):
            wave = _library("soxr").resample(wave, rate, self.rate)
        if not np.isfinite(wave).all():
            raise RefusedError("has samples that are no numbers", "replace it, or remove this row")
        return np.asarray(np.clip(np.rint(wave * 32768), -LARGEST, LARGEST).astype(np.int16))


def _library(name: str) -> Any:
    """A library that only recordings need.

    Raises:
        UserError: naming what installs it.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:  # also where the library that it wraps cannot be loaded
        raise UserError(f"recordings need {name}, not installed here", "pip install 'sounding[audio]'") from None


def _for_each(column: Column, read: Callable[[int, Any], object]) -> None:
    """Call `read` with each row and its recording: a path, bytes, or samples with their rate."""
    cells = column.plain
    if pa.types.is_struct(cells.type) and {"array", "sampling_rate"} <= {part.name for part in cells.type}:
        for row, cell in enumerate(cells):
            if not cell.is_valid or cell["array"].as_py() is None:
                raise column.error("the recording is missing", "leave this row out", row=row)
            try:
                read(row, {"array": np.asarray(cell["array"].values), "rate": int(cell["sampling_rate"].as_py())})
            except RefusedError as refusal:
                what, remedy = refusal.args
                raise column.error(f"the recording {what}", remedy, row=row) from None
        return
    library = _library("soundfile")
    for_each(column, read, "recording", (library.LibsndfileError, OSError, ValueError, EOFError, MemoryError))


def _header(source: Path | bytes | dict[str, Any]) -> tuple[int, int, int]:
    """Frames, rate and channels; nothing is decoded."""
    if isinstance(source, dict):
        return len(source["array"]), source["rate"], 1
    with _opened(source) as file:
        return int(file.frames), int(file.samplerate), int(file.channels)


def _decoded(source: Path | bytes | dict[str, Any]) -> tuple[np.ndarray, int]:
    """(L, channels) int16 where it is stored so, else float32, and the rate."""
    if isinstance(source, dict):
        return np.asarray(source["array"], dtype=np.float32)[:, None], source["rate"]
    with _opened(source) as file:
        exact = file.subtype in ("PCM_16", "PCM_U8", "PCM_S8")
        samples = file.read(dtype="int16" if exact else "float32", always_2d=True)
        if len(samples) < file.frames and file.format != "MP3":  # whose header is an estimate
            what = f"is too short: {len(samples):,} of {file.frames:,} samples are there"
            raise RefusedError(what, "replace it, or remove this row")
        return samples, int(file.samplerate)


def _opened(source: Path | bytes) -> Any:
    """A file whose header has been read and found acceptable."""
    acceptable(source, MOST_BYTES, "recordings")
    start = beginning(source)
    if start.startswith(b"RIFF"):
        promised = int.from_bytes(start[4:8], "little")
        there = len(source) if isinstance(source, bytes) else source.stat().st_size
        if promised not in UNKNOWN_SIZES and promised + 8 > there + 1:  # libsndfile would take what is there
            what = f"is too short: {there:,} of {promised + 8:,} bytes are there"
            raise RefusedError(what, "replace it, or remove this row")
    library = _library("soundfile")
    try:
        return library.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except library.LibsndfileError as error:
        if start.startswith(MAGIC):
            raise
        what = f"is no recording that is understood ({error.error_string.rstrip('.')})"
        raise RefusedError(what, f"use {FORMATS}") from None


def _are_recordings(cells: pa.StructArray) -> bool:
    """Whether structs of bytes and path hold recordings: told from the names, or else from how the bytes begin."""
    names = [part.name for part in cells.type]
    paths = pc.struct_field(cells, "path").drop_null() if "path" in names else pa.array([], pa.string())
    if len(paths):
        named = pc.match_substring_regex(paths.cast(pa.large_string()), NAMED_LIKE_RECORDINGS)
        return bool(pc.mean(named.cast(pa.float64())).as_py() >= 0.9)
    return "bytes" in names and _begin_like_recordings(pc.struct_field(cells, "bytes"))


def _begin_like_recordings(cells: pa.Array) -> bool:
    """Whether the first few cells that are there begin as recordings do; a WebP picture begins with RIFF, too."""
    first = [bytes(cell) for cell in cells.drop_null()[:5].to_pylist()]
    return bool(first) and all(one.startswith(MAGIC) and one[8:12] != b"WEBP" for one in first)


def _mixed(column: Column, rates: np.ndarray, channels: np.ndarray, rate: int) -> list[Finding]:
    """What is brought to one rate and one channel."""
    findings = []
    counts = {str(one): count for one, count in sorted(Counter(rates.tolist()).items())}
    if set(rates.tolist()) != {rate}:
        several = f"recordings have {len(counts)} rates" if len(counts) > 1 else f"recordings have {rates[0]:,} Hz"
        lower = int((rates < rate).sum())
        told = f"; {lower:,} of them have less and gain nothing by it" if lower else ""
        title = f'"{column.name}": {several}; all are brought to {rate:,} samples a second{told}'
        evidence = {"column": column.name, "rate": rate, "recordings_by_rate": counts}
        severity: Severity = "warning" if len(counts) > 1 else "info"
        findings.append(Finding(rule="recordings-resampled", severity=severity, title=title, evidence=evidence))
    if (several_channels := int((channels > 1).sum())) > 0:
        title = f'"{column.name}": {several_channels:,} of {len(channels):,} recordings have several channels: averaged'
        evidence = {"column": column.name, "recordings": several_channels}
        findings.append(Finding(rule="channels-averaged", severity="info", title=title, evidence=evidence))
    return findings


def _long(column: Column, samples: np.ndarray, rate: int) -> list[Finding]:
    """That one recording is much longer than most."""
    median, longest = float(np.median(samples)), int(samples.max())
    if longest <= LONG * max(median, 1.0):
        return []
    title = (
        f'"{column.name}": the longest recording has {longest / rate:,.1f} s, '
        f"{longest / max(median, 1.0):,.0f} times the median: all are held in memory as long as it"
    )
    evidence = {"column": column.name, "seconds": longest / rate, "median_seconds": median / rate}
    return [Finding(rule="very-long-recordings", severity="warning", title=title, evidence=evidence)]


def _empty(column: Column, lengths: np.ndarray) -> list[Finding]:
    return _some(column, lengths == 0, "empty-recordings", "have no samples at all")


def _clipped(column: Column, recordings: list[np.ndarray]) -> list[Finding]:
    clipped = np.array([len(one) > 0 and (np.abs(one) >= LARGEST).mean() >= CLIPPED for one in recordings], dtype=bool)
    return _some(column, clipped, "clipped-recordings", "are clipped: at full scale, where the waves are cut off")


def _silent(column: Column, recordings: list[np.ndarray]) -> list[Finding]:
    silent = np.array([len(one) > 0 and np.abs(one).max() <= SILENT for one in recordings], dtype=bool)
    return _some(column, silent, "silent-recordings", "are silent, nowhere louder than 60 dB below full scale")


def _some(column: Column, which: np.ndarray, rule: str, what: str) -> list[Finding]:
    """That something is so of some recordings, with the place of the first."""
    count = int(which.sum())
    if not count:
        return []
    row = int(which.argmax())
    cell = column.plain[row].as_py() if column.is_text else None
    evidence = {"column": column.name, "recordings": count, "first_row": row, **({"first": cell} if cell else {})}
    title = f'"{column.name}": {count:,} of {len(which):,} recordings {what}'
    return [Finding(rule=rule, severity="warning", title=title, evidence=evidence)]
