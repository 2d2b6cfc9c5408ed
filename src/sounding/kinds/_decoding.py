"""Files of pictures, decoded: as 8-bit grey or colours, or as arrays of many channels."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, ImageSequence, UnidentifiedImageError

from sounding.kinds._files import RefusedError, acceptable, beginning

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Only these are opened: the decoders of rarer formats are where files that loop or explode are found."""
MOST_PIXELS = 50_000_000
"""A header that promises more is refused before anything is decoded."""
MOST_BYTES = 1 << 29
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
    b"II\x2a\x00": "a damaged TIFF, or one of many channels: save these as pages, or as .npy",
    b"MM\x00\x2a": "a damaged TIFF, or one of many channels: save these as pages, or as .npy",
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

NUMPY = b"\x93NUMPY"
"""How a .npy file begins."""
SIXTEEN_BITS = 65_535


class Facts(NamedTuple):
    """What the header of a file tells."""

    height: int
    """Upright."""
    width: int
    channels: int
    """1 for grey, 3 for colours, whatever their palette or transparency; of arrays and pages how many there are."""
    deep: bool
    """Whether its values may go beyond 255."""


class Decoded(NamedTuple):
    """A picture in 8 bits."""

    picture: Pillow.Image | np.ndarray
    """Grey or colours, upright; or (height, width, channels) uint8."""
    frames: int
    """Pages or frames that the file has."""
    cut: bool
    """Whether values were higher than the highest that is expected."""


def facts_of(source: Path | bytes, pages: str = "first") -> Facts:
    """What the header tells; nothing is decoded.

    pages: `first`, or `channels` where each page of a file is a channel.
    """
    if _is_array(source):
        shape, _, kind, _ = _header(source)
        height, width, channels = _sides(shape)
        return Facts(height, width, channels, kind.kind in "iu" and kind.itemsize > 1)
    with opened(source) as picture:
        width, height = picture.size
        # A TIFF gives its upright size, and a PNG that says nothing would be decoded by the question.
        told = picture.format != "TIFF" and (picture.format != "PNG" or "exif" in picture.info)
        if told and picture.getexif().get(ORIENTATION, 1) >= 5:
            width, height = height, width
        frames = frames_of(picture) if pages == "channels" else 1
        channels = frames if frames > 1 else 1 if picture.mode in GREY else 3
        return Facts(height, width, channels, is_deep(picture))


def decoded(source: Path | bytes, pages: str = "first", deepest: int = SIXTEEN_BITS) -> Decoded:
    """The whole picture in 8 bits; values of 16 bits are scaled so that `deepest` becomes 255."""
    if _is_array(source):
        array = _array(source)
        return Decoded(_shallow(array, deepest), 1, _goes_beyond(array, deepest))
    with opened(source) as picture:
        frames = frames_of(picture)
        if pages == "channels" and frames > 1:
            deep = _pages(picture, frames)
            return Decoded(_shallow(deep, deepest), frames, _goes_beyond(deep, deepest))
        picture.load()
        cut = is_deep(picture) and _goes_beyond(np.asarray(picture), deepest)
        return Decoded(upright(picture, deepest), frames, cut)


def highest(source: Path | bytes, pages: str = "first") -> int:
    """The highest value of a picture of more than 8 bits."""
    if _is_array(source):
        return int(_array(source).max())
    with opened(source) as picture:
        if pages == "channels" and (frames := frames_of(picture)) > 1:
            return int(_pages(picture, frames).max())
        picture.load()
        return int(np.asarray(picture).max())


def is_deep(picture: Pillow.Image) -> bool:
    """Whether the values of a picture may go beyond 255."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;16")


def _is_array(source: Path | bytes) -> bool:
    return beginning(source).startswith(NUMPY)


def _header(source: Path | bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether it is in Fortran's order, type, and where the values begin, of a .npy file."""
    acceptable(source, MOST_BYTES, "pictures")
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(file)
        begin = file.tell()
    if kind.hasobject or kind.kind not in "biuf":
        raise RefusedError(f"holds values of type {kind}", "save it with whole numbers, or floats from 0 to 1")
    height, width, channels = _sides(shape)
    if height * width * channels > MOST_PIXELS:
        raise _too_large(" x ".join(map(str, shape)))
    return shape, fortran, kind, begin


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels, which are first or last, and fewer than the pixels of a side."""
    if len(shape) == 2 and 0 not in shape:
        return shape[0], shape[1], 1
    if len(shape) == 3 and 0 not in shape:
        if shape[2] in (1, 3) or shape[2] < min(shape[:2]):
            return shape[0], shape[1], shape[2]
        if shape[0] in (1, 3) or shape[0] < min(shape[1:]):
            return shape[1], shape[2], shape[0]
    remedy = "save (height, width), or that and channels first or last, fewer than pixels on a side"
    raise RefusedError(f"has the shape {shape}", remedy)


def _array(source: Path | bytes) -> np.ndarray:
    """(height, width, channels) uint8 or int64 in [0, 65535], of a .npy file."""
    shape, fortran, kind, begin = _header(source)
    order: Any = "F" if fortran else "C"
    if isinstance(source, bytes):
        values = np.frombuffer(source, kind, math.prod(shape), begin).reshape(shape, order=order)
    else:
        values = np.memmap(source, kind, "r", begin, shape, order)
    if values.ndim == 2:
        values = values[..., None]
    elif _sides(shape) != shape:
        values = values.transpose(1, 2, 0)
    if kind.kind == "b":
        return np.asarray(values, dtype=np.uint8) * 255
    if kind == np.uint8:
        return np.asarray(values)
    low, high = values.min(), values.max()
    most = 1 if kind.kind == "f" else SIXTEEN_BITS
    if not (low >= 0 and high <= most):  # NaN is neither
        raise RefusedError(f"has values from {low:.6g} to {high:.6g}", f"bring them to 0 to {most} before")
    return (
        np.asarray(np.rint(values * 255.0), dtype=np.uint8) if kind.kind == "f" else np.asarray(values, dtype=np.int64)
    )


def _pages(picture: Pillow.Image, frames: int) -> np.ndarray:
    """(height, width, pages) uint8, or int64 in [0, 65535], each page in grey."""
    if picture.width * picture.height * frames > MOST_PIXELS:
        raise _too_large(f"{frames} times {picture.width} x {picture.height}")
    each = []
    for page in ImageSequence.Iterator(picture):
        if is_deep(page):
            each.append(_checked(np.asarray(page)).astype(np.int64))
        else:
            each.append(np.asarray(_opaque(page).convert("L")))
        if each[-1].shape != each[0].shape:
            raise RefusedError("has pages of several sizes", "save each page as a picture of its own")
    if len({one.dtype for one in each}) > 1:
        raise RefusedError("has pages of 8 bits and of 16", "save all with 8 or all with 16 bits")
    return np.stack(each, 2)


def _goes_beyond(array: np.ndarray, deepest: int) -> bool:
    return array.dtype != np.uint8 and int(array.max()) > deepest


def _shallow(array: np.ndarray, deepest: int) -> np.ndarray:
    """uint8 of values in [0, 65535], so that `deepest`, and all beyond it, becomes 255."""
    if array.dtype == np.uint8:
        return array
    whole = np.minimum(array, deepest).astype(np.int64)
    return np.asarray((whole * 255 + deepest // 2) // deepest, dtype=np.uint8)


def _checked(deep: np.ndarray) -> np.ndarray:
    if deep.dtype.kind == "f" or deep.min() < 0 or deep.max() > SIXTEEN_BITS:
        raise RefusedError("has 32 bits for each pixel", "save it with 8 or 16 bits")
    return deep


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


def frames_of(picture: Pillow.Image) -> int:
    """How many frames or pages the file has; previews inside a JPEG do not count."""
    return int(getattr(picture, "n_frames", 1)) if picture.format in ("GIF", "TIFF", "WEBP", "PNG") else 1


def upright(picture: Pillow.Image, deepest: int = SIXTEEN_BITS) -> Pillow.Image:
    """The first frame, decoded, the right way up, as 8-bit grey or colours."""
    picture.load()
    if is_deep(picture):
        picture = _eight_bits(picture, deepest)
    turned = ImageOps.exif_transpose(picture)
    return _opaque(turned)


def _eight_bits(picture: Pillow.Image, deepest: int) -> Pillow.Image:
    """A picture of 16 bits, scaled."""
    shallow = Pillow.fromarray(_shallow(_checked(np.asarray(picture)), deepest))
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


def from_array(array: np.ndarray) -> Pillow.Image:
    """A picture from (height, width, 1 to 4 channels) uint8."""
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    channels = array.shape[2]
    if channels not in modes:
        raise ValueError(f"pictures have 1 to 4 channels, not {channels}")
    return _opaque(Pillow.fromarray(array[..., 0] if channels == 1 else array))
