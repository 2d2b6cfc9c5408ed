"""Masks: pictures whose pixels are the values of classes, or colours that stand for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from sounding.errors import DataError
from sounding.finding import Finding, Remedy
from sounding.kinds._files import RefusedError, stamp
from sounding.kinds.image import arrays_of, for_each_picture, opened, refuse_other_shapes, shapes, size_for
from sounding.kinds.kind import Block, Column, Form, Recognition
from sounding.kinds.target import Target
from sounding.recipe import DataRecipe

UNLABELLED = 255
"""The code of pixels without a class: nothing is learned from them, and nothing is measured on them."""
COLOUR = 1 << 24
"""Added to 0xRRGGBB, so that no colour is taken for a value."""
LOSSLESS = ("PNG", "BMP", "GIF", "TIFF", "PPM")
"""What masks may be: JPEG invents values between those of neighbours, and WebP mostly does."""
MOST_CLASSES = 254
VOID = 255
"""The value that pixels without a class usually have, beside values of several classes."""
FEW_PICTURES = 3
"""Of which a class can hardly be learned."""
MOST_NAMED = 8
COLOURS = (
    *((38, 70, 83), (66, 133, 200), (233, 196, 106), (142, 146, 158), (160, 92, 200), (74, 152, 84), (240, 132, 48)),
    *((140, 92, 62), (214, 62, 66), (242, 136, 184), (56, 190, 190), (176, 206, 62)),
)
"""In which classes are shown, far apart for those that follow each other; quiet for the first, which mostly is what is
behind all others. Those of further classes are mixed with white, then with black."""


@dataclass(frozen=True)
class Mask(Target):
    """A picture of classes, as codes from 0 of one size; 255 is a pixel without a class.

    Files hold the value of a class (grey, or the index of a palette), or its colour. What each value is called, which
    are one class and which are none, says `data.labels`: `{"0": "road", "1": "road", "11": ""}`.
    """

    name: ClassVar[str] = "mask"
    form: ClassVar[Form] = "pictures"
    looks_like: ClassVar[str] = "image"

    classes: tuple[str, ...]
    values: tuple[int, ...]
    """That files may hold, rising; colours are `COLOUR` + 0xRRGGBB, but for greys, which are values."""
    codes: tuple[int, ...]
    """The class of each value, or `UNLABELLED`."""
    shares: tuple[float, ...]
    """Of each class among the pixels of the training masks that have one."""
    height: int
    width: int

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Never: what makes a picture a mask is that it is to be predicted."""
        return None

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Find the values that training masks hold.

        Raises:
            DataError: naming every mask that cannot be read, or if they hold one class, or too many values.
        """
        seen = column.take(rows)
        (height, width, _), counts = _size(column, rows, settings), [Counter[int]() for _ in rows]

        def count(row: int, values: np.ndarray) -> None:
            found, numbers = np.unique(values, return_counts=True)
            if len(found) > MOST_CLASSES + 1:
                raise RefusedError(
                    f"has {len(found):,} different values: no mask, or one that was scaled smoothly or saved as JPEG",
                    "give one value or colour to each class",
                )
            counts[row].update(dict(zip(found.tolist(), numbers.tolist(), strict=True)))

        _for_each(seen, count)
        total = sum(counts, Counter[int]())
        labels = {**column.labels, **settings.labels}
        named, findings = _named(column, total, labels)
        classes = tuple(dict.fromkeys(label for label in named.values() if label))
        if len(classes) < 2 or len(classes) > MOST_CLASSES:
            what = f"the training masks hold {len(classes)} classes" + (f": {classes[0]}" if len(classes) == 1 else "")
            raise column.error(what, f"give masks of 2 to {MOST_CLASSES} classes")
        values = tuple(sorted(named))
        codes = tuple(classes.index(named[value]) if named[value] else UNLABELLED for value in values)
        pixels, pictures = np.zeros(len(classes)), np.zeros(len(classes), dtype=int)
        for one in counts:
            held = {code for value, code in zip(values, codes, strict=True) if one[value] and code != UNLABELLED}
            pictures[list(held)] += 1
        for value, code in zip(values, codes, strict=True):
            if code != UNLABELLED:
                pixels[code] += total[value]
        shares = tuple(float(share) for share in pixels / max(pixels.sum(), 1))
        return cls(classes, values, codes, shares, height, width), [*findings, *_rare(column, classes, pictures)]

    def unnamed(self, column: Column, labels: Collection[str]) -> set[str]:
        """Those that are no value of a pixel; one that no training mask has can be met later."""
        return {text for text in labels if _value(text) is None}

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, 1, height, width) uint8 codes."""
        return self.encode_target(column)[:, None], []

    def encode_target(self, column: Column) -> np.ndarray:
        """(N, height, width) uint8 codes; see `encode_as`."""
        return self.encode_as(column, self.height, self.width)

    def encode_as(self, column: Column, height: int, width: int) -> np.ndarray:
        """(N, height, width) uint8 codes of classes, of masks brought to a size by their nearest pixels.

        Raises:
            DataError: naming every mask that cannot be read, or that holds a value which no training mask has.
        """
        codes = np.empty((len(column), height, width), dtype=np.uint8)

        def encode(row: int, values: np.ndarray) -> None:
            picture = Pillow.fromarray(self._codes_of(values))
            if picture.size != (width, height):
                picture = picture.resize((width, height), Pillow.Resampling.NEAREST)
            codes[row] = np.asarray(picture)

        _for_each(column, encode)
        return codes

    def _codes_of(self, values: np.ndarray) -> np.ndarray:
        """(H, W) uint8 from (H, W) values."""
        known, codes = self._table
        places = np.searchsorted(known, values).clip(max=len(known) - 1)
        strange = known[places] != values
        if strange.any():
            value, count = int(values[strange][0]), int((values == values[strange][0]).sum())
            text = self._text(value)
            raise RefusedError(
                f"has the value {text} in {count:,} pixels, which no training mask has",
                f"""train with such a mask, or take it for no class: --set 'data.labels={{"{text}" = ""}}'""",
            )
        return np.asarray(codes[places])

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.values, dtype=np.int64), np.array(self.codes, dtype=np.uint8)

    @cached_property
    def is_coloured(self) -> bool:
        """Whether the files hold colours."""
        return any(value >= COLOUR for value in self.values)

    def _text(self, value: int) -> str:
        return text_of(value, coloured=self.is_coloured)

    @cached_property
    def colours(self) -> np.ndarray:
        """(classes + 1, 3) uint8: in which each class is shown, the last for no class; those of the files, if any."""
        count = len(self.classes)
        if self.is_coloured:
            firsts = [self.values[self.codes.index(code)] for code in range(count)]
            own = np.array([_rgb(value) for value in firsts], dtype=np.uint8)
            return np.concatenate([own, np.full((1, 3), 255, np.uint8)])
        wheel = np.array(COLOURS, dtype=np.float64)
        shades = np.concatenate([wheel, (wheel + 255) / 2, wheel / 2, wheel / 3 + 170]).astype(np.uint8)
        if count == 2:
            shades[1] = COLOURS[2]
        return np.concatenate([shades[np.arange(count) % len(shades)], np.full((1, 3), 255, np.uint8)])

    def painted(self, codes: np.ndarray) -> np.ndarray:
        """(..., 3) uint8 colours of (...) codes."""
        return np.asarray(self.colours[np.minimum(codes, len(self.classes))])

    def picture(self, codes: np.ndarray) -> Pillow.Image:
        """(H, W) codes of classes as the files had them: the first value of each class, or its colour.

        Values up to 255 are the indices of a palette, in which they can be told apart when they are looked at.
        """
        firsts = np.array([self.values[self.codes.index(code)] for code in range(len(self.classes))])
        if self.is_coloured:
            return Pillow.fromarray(self.painted(codes))
        if firsts.max() > 255:
            return Pillow.fromarray(firsts[codes].astype(np.uint16))
        picture = Pillow.fromarray(firsts.astype(np.uint8)[codes])
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[firsts] = self.colours[:-1]
        picture.putpalette(palette.tobytes())
        return picture

    def block(self, column: str) -> Block:
        """A picture of one channel."""
        codes = np.arange(len(self.classes))
        mean = float(codes @ np.array(self.shares))
        spread = float(np.sqrt(((codes - mean) ** 2) @ np.array(self.shares)))
        return Block(
            f"image:{column}",
            self.form,
            (column,),
            channels=1,
            height=self.height,
            width=self.width,
            mean=(mean,),
            std=(spread or 1.0,),
        )

    def describe(self) -> str:
        """How many classes, and of what share."""
        order = np.argsort(-np.array(self.shares), kind="stable")
        named = [f"{self.classes[at]} {self.shares[at]:.1%}" for at in order[:MOST_NAMED]]
        more = f", and {len(order) - MOST_NAMED} more" if len(order) > MOST_NAMED else ""
        return f"masks of {len(self.classes)} classes: {', '.join(named)}{more}"

    def show(self, column: Column, row: int) -> np.ndarray:
        """(height, width, 3) uint8: each class in a colour."""
        return self.painted(self.encode_target(column.take(np.array([row])))[0])

    def stamp(self, column: Column) -> str:
        """Size and time of change of every file."""
        return stamp(column)


def text_of(value: int, *, coloured: bool) -> str:
    """How `data.labels` names a value.

    >>> text_of(7, coloured=False), text_of(7, coloured=True), text_of(COLOUR + 0x804000, coloured=True)
    ('7', '#070707', '#804000')
    """
    return "#{:02x}{:02x}{:02x}".format(*_rgb(value)) if coloured or value >= COLOUR else str(value)


def values_of(picture: Pillow.Image) -> np.ndarray:
    """(H, W) int64 values of a mask: grey, the index of a palette, or `COLOUR` + 0xRRGGBB.

    Raises:
        RefusedError: for pictures that lost their values, or cannot have any.
    """
    if picture.format is not None and picture.format not in LOSSLESS:
        raise RefusedError(
            f"is a {picture.format}, in which values of neighbours blend", "save masks without loss, as PNG"
        )
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode in ("L", "P", "I") or picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.int64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise RefusedError("has values that are negative or above 65535", "save it with 8 or 16 bits")
        return values
    if picture.mode in ("LA", "PA", "RGBA"):
        if np.asarray(picture.getchannel("A")).min(initial=255) < 255:
            raise RefusedError("has pixels that can be seen through", "give every pixel a value of its own")
        return values_of(picture.convert({"LA": "L", "PA": "P", "RGBA": "RGB"}[picture.mode]))
    if picture.mode != "RGB":
        raise RefusedError(f"is a picture of mode {picture.mode}", "save masks as grey, palette or RGB pictures")
    red, green, blue = np.moveaxis(np.asarray(picture).astype(np.int64), 2, 0)
    return np.asarray(np.where((red == green) & (green == blue), red, COLOUR + (red << 16) + (green << 8) + blue))


def _rgb(value: int) -> tuple[int, int, int]:
    if value < COLOUR:
        return value, value, value
    return value >> 16 & 255, value >> 8 & 255, value & 255


def _size(column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[int, int, str]:
    """As that of the pictures beside them."""
    refuse_other_shapes(column, settings)
    try:
        return size_for(shapes(column, rows)[0], settings.picture_size, settings.picture_longest)
    except DataError:
        _for_each(column, lambda row, values: None)  # names what is wrong in all rows, not only in those looked at
        raise


def _for_each(column: Column, use: Callable[[int, np.ndarray], object]) -> None:
    """Call with each row and the values of its mask."""
    arrays = arrays_of(column)
    if arrays is not None:
        for row, array in enumerate(arrays):
            picture = Pillow.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
            try:
                use(row, values_of(picture))
            except RefusedError as refusal:
                what, remedy = refusal.args
                raise column.error(f"the mask {what}", remedy, row=row) from None
        return

    def read(row: int, source: Path | bytes) -> None:
        with opened(source) as picture:
            use(row, values_of(picture))

    for_each_picture(column, read, "mask")


def _named(column: Column, found: Mapping[int, int], labels: Mapping[str, str]) -> tuple[dict[int, str], list[Finding]]:
    """The name of each value, empty for no class; and what is odd about them."""
    coloured = any(value >= COLOUR for value in found)
    texts = {text_of(value, coloured=coloured): value for value in sorted(found)}
    unseen = {text: _value(text) for text in labels if text not in texts}
    named = {value: labels.get(text, text) for text, value in texts.items()}
    known = {"", *named.values()}
    named |= {value: labels[text] for text, value in unseen.items() if value is not None and labels[text] in known}
    findings = []
    if VOID in found and str(VOID) not in labels and not coloured and len(found) > 2:
        named[VOID] = ""
        findings.append(
            Finding(
                rule="void-pixels",
                severity="info",
                title=f'"{column.name}": the value {VOID} beside {len(found) - 1} others means no class',
                evidence={"column": column.name, "pixels": found[VOID], "of": sum(found.values())},
                remedy=Remedy("make it a class", {"data.labels": {**labels, str(VOID): str(VOID)}}),
            )
        )
    left = sum(found.get(value, 0) for value, label in named.items() if not label)
    if left:
        share = left / sum(found.values())
        findings.append(
            Finding(
                rule="unlabelled-pixels",
                severity="info",
                title=f'"{column.name}": {share:.1%} of the training pixels have no class: '
                "nothing is learned from them, and nothing is measured on such",
                evidence={"column": column.name, "pixels": left, "share": share},
            )
        )
    return named, findings


def _value(text: str) -> int | None:
    """The value that a text names."""
    if text.isdecimal():
        return int(text)
    try:
        red, green, blue = bytes.fromhex(text.removeprefix("#"))
    except ValueError:
        return None
    return red if red == green == blue else COLOUR + (red << 16) + (green << 8) + blue


def _rare(column: Column, classes: tuple[str, ...], pictures: np.ndarray) -> list[Finding]:
    rare = [at for at, count in enumerate(pictures) if count < FEW_PICTURES]
    if not rare:
        return []
    named = ", ".join(f'"{classes[at]}" ({pictures[at]})' for at in rare[:MOST_NAMED])
    return [
        Finding(
            rule="near-empty-classes",
            severity="warning",
            title=f'"{column.name}": {len(rare)} of {len(classes)} classes are in fewer than {FEW_PICTURES} training '
            f"masks: {named}" + (", ..." if len(rare) > MOST_NAMED else ""),
            evidence={"classes": {classes[at]: int(pictures[at]) for at in rare[:200]}, "few": FEW_PICTURES},
            meaning="What is said about them rests on very few pictures.",
            remedy=Remedy("give more masks that hold them, or read them as one class with data.labels"),
        )
    ]
