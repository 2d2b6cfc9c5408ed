"""Pictures: files under the folder of the data, encoded bytes, or arrays; all of them end as uint8 of one size."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from sounding.errors import DataError
from sounding.finding import Finding
from sounding.kinds._files import RefusedError, acceptable, beginning, for_each, stamp
from sounding.kinds.kind import Block, Column, Form, Kind, Recognition
from sounding.recipe import DataRecipe

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Only these are opened: the decoders of rarer formats are where files that loop or explode are found."""
NAMED_LIKE_PICTURES = (
    r"(?i)\.(png|jpe?g|jpe|bmp|gif|tiff?|webp|ppm|pgm|pbm|pnm"
    r"|svg|psd|hei[cf]|avif|dcm|raw|cr2|nef|dng|ico|jp2)$"
)
"""The second half is not opened: such rows meet an error that says so, instead of being taken for words."""
MOST_PIXELS = 50_000_000
"""A header that promises more is refused before anything is decoded."""
MOST_BYTES = 1 << 29
LARGEST_SIDE = 512
"""Pictures of one size are kept as they are up to this many pixels a side."""
USUAL_SIDE = 128
"""The longer side that pictures of several sizes are brought to, at most."""
MEASURED = 1000
"""Training pictures from which mean and standard deviation of the channels are taken, spread evenly over the rows."""
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held; 5 to 8 exchange width and height."""
CONTENTS = {
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "SVG or XML",
    b"<!DOC": "HTML",
    b"<html": "HTML",
    b"8BPS": "PSD",
    b"%!PS": "PostScript",
    b"SIMPLE": "FITS",
    b"PK\x03\x04": "a ZIP archive",
    b"II\x2a\x00\x10\x00\x00\x00CR": "camera raw",
}
"""How files that are not understood begin."""
UNREADABLE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    struct.error,
    Pillow.DecompressionBombError,
    Pillow.DecompressionBombWarning,
)
"""What Pillow raises on damaged files."""


@dataclass(frozen=True)
class Image(Kind):
    """A picture, as uint8 of one size: one channel if all training pictures are grey, else red, green and blue.

    Turned upright by EXIF; transparency is put on white; 16 bits are scaled to 8; of several frames the first is
    taken. Pictures of another size are stretched to this one.
    """

    name: ClassVar[str] = "image"
    form: ClassVar[Form] = "pictures"

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    """Of each channel, in [0, 255], over training pictures."""
    std: tuple[float, ...]

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
        seen = column.take(rows)
        try:
            sizes, grey = shapes(column, rows)
            height, width, why = size_for(sizes, settings.picture_size, settings.picture_longest)
            kind = cls(1 if grey else 3, height, width, (), ())
            some = np.linspace(0, len(rows) - 1, min(len(rows), MEASURED)).astype(np.int64)
            pixels, _ = kind.encode(seen.take(some))
        except DataError:
            cls(3, 8, 8, (), ()).encode(column)  # names what is wrong in all rows, not only in those looked at so far
            raise
        mean, std = (
            pixels.mean(axis=(0, 2, 3), dtype=np.float64),
            pixels.std(axis=(0, 2, 3), dtype=np.float64),
        )
        fitted = cls(kind.channels, height, width, tuple(map(float, mean)), tuple(float(s) or 1.0 for s in std))
        if not why:
            return fitted, []
        note = Finding(
            rule="pictures-resized",
            severity="info",
            title=f'"{column.name}": {why}; all are brought to {width} x {height} pixels',
            evidence={"column": column.name, "width": width, "height": height, "sizes": len(set(sizes))},
        )
        return fitted, [note]

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, channels, height, width) uint8.

        Raises:
            DataError: naming every picture that cannot be read, with its line.
        """
        pixels = np.empty((len(column), self.channels, self.height, self.width), dtype=np.uint8)
        arrays = arrays_of(column)
        if arrays is not None:
            if arrays.ndim == 3:
                arrays = arrays[..., None]
            if arrays.shape[1:] == (self.height, self.width, self.channels):
                pixels[:] = arrays.transpose(0, 3, 1, 2)
            else:
                for row, array in enumerate(arrays):
                    pixels[row] = self._fitted(_from_array(array))
            return pixels, []
        frames = np.ones(len(column), dtype=np.int64)

        def read(row: int, source: Path | bytes) -> None:
            with opened(source) as picture:
                frames[row] = _frames(picture)
                pixels[row] = self._fitted(_upright(picture))

        for_each_picture(column, read)
        return pixels, _frame_findings(column, frames)

    def _fitted(self, picture: Pillow.Image) -> np.ndarray:
        """(channels, height, width) uint8 of an 8-bit picture in grey or colours."""
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if picture.size != (self.width, self.height):
            picture = picture.resize((self.width, self.height), Pillow.Resampling.BILINEAR)
        array = np.asarray(picture, dtype=np.uint8)
        return array[None] if self.channels == 1 else array.transpose(2, 0, 1)

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
        return f"{'grey' if self.channels == 1 else 'colour'} pictures of {self.width} x {self.height} pixels"

    def show(self, column: Column, row: int) -> np.ndarray:
        """(height, width, channels) uint8: the picture as the network sees it."""
        return np.asarray(self.encode(column.take(np.array([row])))[0][0].transpose(1, 2, 0))

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
                return _upright(picture)
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
    arrays = arrays_of(column)
    if arrays is not None:
        return [arrays.shape[1:3]], arrays.ndim == 3 or arrays.shape[3] in (1, 2)
    sizes = np.zeros((len(rows), 2), dtype=np.int64)
    grey = np.ones(len(rows), dtype=bool)

    def read(row: int, source: Path | bytes) -> None:
        with opened(source) as picture:
            width, height = picture.size
            # A TIFF gives its upright size, and a PNG that says nothing would be decoded by the question.
            told = picture.format != "TIFF" and (picture.format != "PNG" or "exif" in picture.info)
            if told and picture.getexif().get(ORIENTATION, 1) >= 5:
                width, height = height, width
            sizes[row], grey[row] = (height, width), picture.mode in GREY

    for_each_picture(column.take(rows), read)
    return [(int(height), int(width)) for height, width in sizes], bool(grey.all())


def for_each_picture(column: Column, read: Callable[[int, Path | bytes], None], noun: str = "picture") -> None:
    """Call `read` with each row and its picture; see `for_each`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; too many pixels are refused
        for_each(column, read, noun, UNREADABLE)


def opened(source: Path | bytes) -> Pillow.Image:
    """A picture whose header has been read and found acceptable; nothing is decoded yet."""
    acceptable(source, MOST_BYTES, "pictures")
    try:
        picture = Pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except UnidentifiedImageError:
        raise RefusedError(f"is not a picture: {_content(source)}", f"use {', '.join(FORMATS)}") from None
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        raise _too_large("far too many") from None
    if picture.width * picture.height > MOST_PIXELS:
        picture.close()
        raise _too_large(f"{picture.width} x {picture.height}")
    return picture


def _too_large(size: str) -> RefusedError:
    return RefusedError(
        f"promises {size} pixels in its header and was not decoded",
        f"pictures may have {MOST_PIXELS // 1_000_000} million pixels at most",
    )


def _content(source: Path | bytes) -> str:
    """What the first bytes of a file say it is."""
    start = beginning(source)
    if start[4:8] == b"ftyp":
        return "its content is HEIC, AVIF or video"
    if start[128:132] == b"DICM":
        return "its content is DICOM"
    named = [name for mark, name in CONTENTS.items() if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(mark)]
    return f"its content is {named[0]}" if named else "its content is no format that is opened, or damaged"


def _frames(picture: Pillow.Image) -> int:
    """How many frames or pages the file has; previews inside a JPEG do not count."""
    return int(getattr(picture, "n_frames", 1)) if picture.format in ("GIF", "TIFF", "WEBP", "PNG") else 1


def _upright(picture: Pillow.Image) -> Pillow.Image:
    """The first frame, decoded, the right way up, as 8-bit grey or colours."""
    picture.load()
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _eight_bits(picture)
    turned = ImageOps.exif_transpose(picture)
    return _opaque(turned)


def _eight_bits(picture: Pillow.Image) -> Pillow.Image:
    """A picture of 16 bits, scaled: 65535 becomes 255."""
    deep = np.asarray(picture)
    if picture.mode == "F" or deep.min() < 0 or deep.max() > 65535:
        raise RefusedError("has 32 bits for each pixel", "save it with 8 or 16 bits")
    shallow = Pillow.fromarray(((deep.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    shallow.info, exif = picture.info, picture.getexif()
    if ORIENTATION in exif:
        shallow.getexif()[ORIENTATION] = exif[ORIENTATION]
    return shallow


def _opaque(picture: Pillow.Image) -> Pillow.Image:
    """Grey or colours without transparency: what is transparent shows white."""
    if picture.mode not in TRANSPARENT and "transparency" not in picture.info:
        return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    coloured = picture.convert("RGBA")
    white = Pillow.new("RGBA", coloured.size, (255, 255, 255, 255))
    return Pillow.alpha_composite(white, coloured).convert("RGB")


def _from_array(array: np.ndarray) -> Pillow.Image:
    """A picture from (height, width, 1 to 4 channels) uint8."""
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    channels = array.shape[2]
    if channels not in modes:
        raise ValueError(f"pictures have 1 to 4 channels, not {channels}")
    return _opaque(Pillow.fromarray(array[..., 0] if channels == 1 else array))


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
        )
    ]
