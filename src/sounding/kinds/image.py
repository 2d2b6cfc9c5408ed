"""Pictures: files under the folder of the data, encoded bytes, or arrays; all of them end as uint8 of one size."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image as Pillow
from PIL import ImageOps

from sounding.errors import DataError
from sounding.finding import Finding, Remedy
from sounding.kinds._decoding import SIXTEEN_BITS, UNREADABLE, Facts, decoded, facts_of, from_array, highest, upright
from sounding.kinds._decoding import opened as opened
from sounding.kinds._files import RefusedError, for_each, stamp
from sounding.kinds.kind import Block, Column, Form, Kind, Recognition
from sounding.recipe import DataRecipe

NAMED_LIKE_PICTURES = (
    r"(?i)\.(png|jpe?g|jpe|bmp|gif|tiff?|webp|ppm|pgm|pbm|pnm|npy"
    r"|svg|psd|hei[cf]|avif|dcm|raw|cr2|nef|dng|ico|jp2)$"
)
"""The second half is not opened: such rows meet an error that says so, instead of being taken for words."""
LARGEST_SIDE = 512
"""Pictures of one size are kept as they are up to this many pixels a side."""
USUAL_SIDE = 128
"""The longer side that pictures of several sizes are brought to, at most."""
MEASURED = 1000
"""Training pictures from which mean and standard deviation of the channels are taken, spread evenly over the rows."""
LATER = {"deepest": SIXTEEN_BITS, "shape": "stretch", "pages": "first"}
"""Fields that the first models did not have, and what was done then."""
STRETCHED = 1.1
"""A picture is told to change its shape if its sides change by factors that are further apart than this."""


@dataclass(frozen=True)
class Image(Kind):
    """A picture, as uint8 of one size: one channel if all training pictures are grey, else red, green and blue.

    Turned upright by EXIF; transparency is put on white; 16 bits are scaled to 8 by as many as the training pictures
    use; of several frames the first is taken, unless they are the channels. Arrays of any other number of channels
    keep these. Pictures of another size are stretched to this one, padded or cut, as `data.picture_fit` says.
    """

    name: ClassVar[str] = "image"
    form: ClassVar[Form] = "pictures"

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    """Of each channel, in [0, 255], over training pictures."""
    std: tuple[float, ...]
    deepest: int = SIXTEEN_BITS
    """Of pictures of 16 bits the value that becomes 255."""
    shape: str = "stretch"
    """How pictures of another size are brought to this one: `data.picture_fit`."""
    pages: str = "first"
    """What the pages of a file are: `data.picture_pages`."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Arrays of pixels, encoded bytes, or names that end as those of pictures do."""
        kind = column.plain.type
        if isinstance(kind, pa.FixedShapeTensorType) and kind.value_type == pa.uint8() and len(kind.shape) in (2, 3):
            return Recognition(1.0, f"pictures of {' x '.join(map(str, kind.shape))}")
        if pa.types.is_struct(kind) and {"bytes", "path"} & {part.name for part in kind}:
            return Recognition(1.0, "encoded pictures")
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return Recognition(0.9, "encoded pictures")
        if column.is_text and column.present.any():
            named = pc.match_substring_regex(column.words.drop_null(), NAMED_LIKE_PICTURES)
            if pc.mean(named.cast(pa.float64())).as_py() >= 0.9:
                return Recognition(0.95, "paths of pictures")
        return None

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Choose channels and size from the headers of the training pictures, and measure mean and deviation.

        Raises:
            DataError: naming every picture in the column that cannot be opened.
        """
        seen, asked = column.take(rows), (settings.picture_fit, settings.picture_pages)
        try:
            facts = _facts(seen, settings.picture_pages)
            sizes = [fact[:2] for fact in facts]
            height, width, why = size_for(sizes, settings.picture_size, settings.picture_longest)
            deepest, notes = _deepest(seen, facts, settings.picture_pages)
            kind = cls(_channels(facts), height, width, (), (), deepest, *asked)
            some = np.linspace(0, len(rows) - 1, min(len(rows), MEASURED)).astype(np.int64)
            pixels, _ = kind.encode(seen.take(some))
        except DataError:
            # names what is wrong in all rows, not only in those looked at so far
            if arrays_of(column) is None:
                for_each_picture(column, lambda row, source: decoded(source, settings.picture_pages))
            raise
        mean, std = (
            pixels.mean(axis=(0, 2, 3), dtype=np.float64),
            pixels.std(axis=(0, 2, 3), dtype=np.float64),
        )
        measured = tuple(map(float, mean)), tuple(float(s) or 1.0 for s in std)
        fitted = cls(kind.channels, height, width, *measured, deepest, *asked)
        if why:
            notes.append(_resized(column, sizes, fitted, why))
        return fitted, notes

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, channels, height, width) uint8.

        Raises:
            DataError: naming every picture that cannot be read, with its line.
        """
        arrays = arrays_of(column)
        if arrays is None:
            return self._read(column)
        pixels = np.empty((len(column), self.channels, self.height, self.width), dtype=np.uint8)
        if arrays.ndim == 3:
            arrays = arrays[..., None]
        if arrays.shape[1:] == (self.height, self.width, self.channels):
            pixels[:] = arrays.transpose(0, 3, 1, 2)
            return pixels, []
        for row, array in enumerate(arrays):
            try:
                pixels[row] = self._fitted(array if array.shape[2] > 4 else from_array(array))
            except RefusedError as refusal:
                raise column.error(f"the picture {refusal.args[0]}", refusal.args[1], row=row) from None
        return pixels, []

    def _read(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """The same of files or their bytes."""
        pixels = np.empty((len(column), self.channels, self.height, self.width), dtype=np.uint8)
        frames, cut = np.ones(len(column), dtype=np.int64), np.zeros(len(column), dtype=bool)

        def read(row: int, source: Path | bytes) -> None:
            picture, frames[row], cut[row] = decoded(source, self.pages, self.deepest)
            pixels[row] = self._fitted(picture)

        for_each_picture(column, read)
        notes = _frame_findings(column, frames) if self.pages == "first" else []
        return pixels, notes + _cut_findings(column, cut, self.deepest)

    def _fitted(self, picture: Pillow.Image | np.ndarray) -> np.ndarray:
        """(channels, height, width) uint8 of an 8-bit picture in grey or colours, or of (height, width, channels).

        Raises:
            RefusedError: for another number of channels, where these are not grey or colours.
        """
        if isinstance(picture, np.ndarray) and picture.shape[2] in (1, 3) and self.channels in (1, 3):
            picture = Pillow.fromarray(picture[..., 0] if picture.shape[2] == 1 else np.ascontiguousarray(picture))
        if isinstance(picture, np.ndarray):
            if picture.shape[2] != self.channels:
                raise RefusedError(f"has {picture.shape[2]} channels, and others have {self.channels}", _ONE_NUMBER)
            each = [self._placed(Pillow.fromarray(channel)) for channel in np.moveaxis(picture, 2, 0)]
            return np.stack([np.asarray(channel, dtype=np.uint8) for channel in each])
        if self.channels not in (1, 3):
            has = 1 if picture.mode == "L" else 3
            raise RefusedError(f"has {has} channels, and others have {self.channels}", _ONE_NUMBER)
        array = np.asarray(self._placed(picture.convert("L" if self.channels == 1 else "RGB")), dtype=np.uint8)
        return array[None] if self.channels == 1 else array.transpose(2, 0, 1)

    def _placed(self, picture: Pillow.Image) -> Pillow.Image:
        """The picture in the size of all; beside one that is padded stands its mean colour."""
        size, bilinear = (self.width, self.height), Pillow.Resampling.BILINEAR
        if picture.size == size:
            return picture
        if self.shape == "crop":
            return ImageOps.fit(picture, size, bilinear)
        if self.shape == "pad":
            mean = np.asarray(picture).reshape(-1, len(picture.getbands())).mean(0).round().astype(int)
            colour = tuple(map(int, mean))
            return ImageOps.pad(picture, size, bilinear, color=colour if len(colour) > 1 else colour[0])
        return picture.resize(size, bilinear)

    def block(self, column: str) -> Block:
        """A block of its own."""
        return Block(
            f"image:{column}",
            self.form,
            (column,),
            channels=self.channels,
            height=self.height,
            width=self.width,
            mean=self.mean,
            std=self.std,
        )

    def describe(self) -> str:
        """Size and colours."""
        sort = {1: "grey pictures", 3: "colour pictures"}.get(self.channels, f"pictures of {self.channels} channels")
        return f"{sort}, {self.width} x {self.height} pixels"

    def show(self, column: Column, row: int) -> np.ndarray:
        """(height, width, channels) uint8: the picture as the network sees it."""
        return np.asarray(self.encode(column.take(np.array([row])))[0][0].transpose(1, 2, 0))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`; a model that was saved before there were `LATER` reads as it did."""
        older = isinstance(values, dict) and not LATER.keys() & values.keys()
        return super().from_json({**values, **LATER} if older else values)

    def stamp(self, column: Column) -> str:
        """Size and time of change of every file, so that a changed picture is read again."""
        return stamp(column)


def read_picture(file: Path) -> Pillow.Image:
    """A picture by itself, upright, as 8-bit grey or colours.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    if not file.is_file():
        raise DataError("there is no such picture", "correct the path", file=file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with opened(file) as picture:
                return upright(picture)
    except RefusedError as refusal:
        raise DataError(refusal.args[0], refusal.args[1], file=file) from None
    except UNREADABLE as error:
        raise DataError(f"is damaged and cannot be decoded ({error})", "replace it", file=file) from None


def arrays_of(column: Column) -> np.ndarray | None:
    """(N, height, width) or (N, height, width, channels) uint8, where the cells are arrays."""
    cells = column.plain
    if not isinstance(cells.type, pa.FixedShapeTensorType):
        return None
    if cells.null_count:
        row = int(np.argmax(~np.asarray(pc.is_valid(cells.storage))))
        raise column.error(f"{cells.null_count} rows have no picture", "leave these rows out", row=row)
    return np.asarray(cells.to_numpy_ndarray())


def shapes_of(column: Column) -> list[tuple[int, int]]:
    """Height and width of the picture of every row; nothing is decoded.

    Raises:
        DataError: naming every picture that cannot be opened.
    """
    sizes, _ = shapes(column, np.arange(len(column)))
    return sizes * len(column) if arrays_of(column) is not None else sizes


def shapes(column: Column, rows: np.ndarray) -> tuple[list[tuple[int, int]], bool]:
    """Height and width of the pictures in these rows, and whether all of them are grey; nothing is decoded.

    Raises:
        DataError: naming every picture that cannot be opened.
    """
    facts = _facts(column.take(rows), "first")
    return [fact[:2] for fact in facts], all(fact.channels == 1 for fact in facts)


def _facts(column: Column, pages: str) -> list[Facts]:
    """What the header of every picture tells; of arrays what is true of all."""
    arrays = arrays_of(column)
    if arrays is not None:
        count = 1 if arrays.ndim == 3 or arrays.shape[3] in (1, 2) else arrays.shape[3]
        return [Facts(arrays.shape[1], arrays.shape[2], count if count > 4 else min(count, 3), deep=False)]
    facts = [Facts(0, 0, 0, deep=False)] * len(column)

    def read(row: int, source: Path | bytes) -> None:
        facts[row] = facts_of(source, pages)

    for_each_picture(column, read)
    return facts


def _channels(facts: list[Facts]) -> int:
    """Those of most pictures; grey ones among those in colours are in colours, too."""
    counts = Counter(fact.channels for fact in facts)
    most = counts.most_common(1)[0][0]
    return most if most not in (1, 3) else 3 if counts[3] else 1


def _deepest(column: Column, facts: list[Facts], pages: str) -> tuple[int, list[Finding]]:
    """The value that becomes 255, by the bits that pictures of 16 bits use, and what to say of it."""
    deep = np.flatnonzero([fact.deep for fact in facts])
    if not len(deep):
        return SIXTEEN_BITS, []
    looked = deep[np.linspace(0, len(deep) - 1, min(len(deep), MEASURED)).astype(np.int64)]
    values = np.zeros(len(looked), dtype=np.int64)

    def read(row: int, source: Path | bytes) -> None:
        values[row] = min(highest(source, pages), SIXTEEN_BITS)

    for_each_picture(column.take(looked), read)
    bits = max(int(values.max()).bit_length(), 8)
    if bits == 8:
        return 255, []
    title = f'"{column.name}": {len(deep)} pictures of 16 bits use {bits} of them (up to {values.max()}), brought to 8'
    evidence = {"column": column.name, "pictures": len(deep), "highest": int(values.max()), "bits": bits}
    return 2**bits - 1, [Finding(rule="pictures-scaled", severity="info", title=title, evidence=evidence)]


def _resized(column: Column, sizes: list[tuple[int, int]], kind: Image, why: str) -> Finding:
    """What is done to pictures of another size than that of all, and to how many."""
    ratios = np.array([(width / kind.width) / (height / kind.height) for height, width in sizes])
    other = int((np.maximum(ratios, 1 / ratios) > STRETCHED).sum())
    done = {"stretch": "stretched", "pad": "padded with their mean colour", "crop": "cut at their borders"}[kind.shape]
    shaped = f"; {other} of another shape are {done}" if other else ""
    keep = Remedy("keep their shape", {"data.picture_fit": "pad"}) if other and kind.shape == "stretch" else None
    evidence = {"column": column.name, "width": kind.width, "height": kind.height, "sizes": len(set(sizes))}
    return Finding(
        rule="pictures-resized",
        severity="info",
        title=f'"{column.name}": {why}; all are brought to {kind.width} x {kind.height} pixels{shaped}',
        evidence={**evidence, "of_another_shape": other},
        remedy=keep,
    )


def refuse_other_shapes(column: Column, settings: DataRecipe) -> None:
    """For what lies on pictures, and is stretched with them.

    Raises:
        DataError: if these are padded or cut.
    """
    if settings.picture_fit != "stretch":
        raise column.error("masks and boxes are stretched with their pictures", "leave data.picture_fit as it is")


def for_each_picture(column: Column, read: Callable[[int, Path | bytes], object], noun: str = "picture") -> None:
    """Call `read` with each row and its picture; see `for_each`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; too many pixels are refused
        for_each(column, read, noun, UNREADABLE)


def size_for(sizes: list[tuple[int, int]], asked: int, longest: int = 0) -> tuple[int, int, str]:
    """Height and width to use, and why when pictures are resized.

    asked, longest: `data.picture_size` and `data.picture_longest`.
    """
    if asked:
        different = any(size != (asked, asked) for size in sizes)
        return asked, asked, "data.picture_size says so" if different else ""
    (height, width), several = sizes[0], len(set(sizes)) > 1
    if not several and max(height, width) <= (longest or LARGEST_SIDE):
        return height, width, ""
    height, width = (int(np.median([size[axis] for size in sizes])) for axis in (0, 1))
    most = longest or USUAL_SIDE
    shrink = min(1.0, most / max(height, width))
    why = f"{len(set(sizes))} sizes, of which this is the median" if several else f"pictures of {width} x {height}"
    limit = f", at most {most} a side" if shrink < 1 else ""
    return max(1, round(height * shrink)), max(1, round(width * shrink)), why + limit


def _frame_findings(column: Column, frames: np.ndarray) -> list[Finding]:
    several = int((frames > 1).sum())
    if not several:
        return []
    return [
        Finding(
            rule="several-frames",
            severity="warning",
            title=f'"{column.name}": {several} of {len(frames)} pictures have several frames; the first is used',
            evidence={"column": column.name, "pictures": several, "first_row": int((frames > 1).argmax())},
            remedy=Remedy("take every page as a channel", {"data.picture_pages": "channels"}),
        )
    ]


def _cut_findings(column: Column, cut: np.ndarray, deepest: int) -> list[Finding]:
    if not cut.any():
        return []
    few = f"{int(cut.sum())} of {len(cut)}"
    return [
        Finding(
            rule="values-cut",
            severity="warning",
            title=f'"{column.name}": {few} pictures go beyond {deepest}, the most in training, and are cut',
            evidence={"column": column.name, "pictures": int(cut.sum()), "first_row": int(cut.argmax())},
        )
    ]


_ONE_NUMBER = "give all the same channels, or leave these rows out"
