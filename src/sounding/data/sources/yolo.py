"""Boxes in the layout of YOLO: a text file for each picture, in fractions of its sides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from sounding.data.sources._boxes import PICTURES, Marked, table_of
from sounding.data.sources._files import read_bytes, utf8
from sounding.data.sources._parts import part_named
from sounding.data.table import Table
from sounding.errors import DataError, Problems
from sounding.finding import Finding
from sounding.kinds import Column
from sounding.kinds.image import shapes_of
from sounding.recipe import DataRecipe

UNDERSTANDS = (
    "a folder of pictures with boxes as YOLO keeps them (folders images and labels, or text files beside pictures)"
)
TASK = "detection"

NAMED = ("classes.txt", "obj.names", "labels.txt")
"""Files with a name of a class in each line."""
BOX = re.compile(rb"\s*\d+(?:[ \t]+[-+.\deE]+){4}[ \t]*(?:\r?\n|$)")
LISTED = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]+)""")
"""A name in a list of a YAML file; in quotes it may hold commas."""
LOOKED_AT = 1000
"""Bytes of a text file, to see whether it holds boxes."""
ITEM = re.compile(r"^\s*(?:-|(?P<number>\d+)\s*:)\s*(?P<name>.*?)\s*$")
"""Of a list, or of a dictionary, of names in a YAML file."""


def claims(source: object) -> bool:
    """Whether it is a folder with a folder `labels` in it, or in those of its parts, that holds text files.

    Or one of pictures with boxes in text files beside them, as Darknet keeps them.
    """
    return isinstance(source, Path) and source.is_dir() and (_has_labels(source) or _is_flat(source))


def _has_labels(source: Path) -> bool:
    places = [source / "labels", *(path / "labels" for path in sorted(source.iterdir()) if path.is_dir())]
    return any(place.is_dir() and next(place.rglob("*.txt"), None) is not None for place in places)


def read(source: object, settings: DataRecipe) -> Table:
    """Columns `image` and `boxes`; in the parts that folders are called after. A picture without a file has no boxes.

    Raises:
        DataError: naming file and line of what is no box.
    """
    assert isinstance(source, Path)
    problems = Problems()
    names = _names(source)
    find = _label_file if _has_labels(source) else _beside
    pictures = sorted(path for path in source.rglob("*") if path.suffix.lower() in PICTURES and find(path))
    lists = {} if find is _label_file else _lists(source)
    below = [path.relative_to(source).as_posix() for path in pictures]
    sizes = shapes_of(
        Column("image", pa.array(below, pa.string()), frozenset(), source, lambda row: (below[row], None))
    )
    marked, bare = list[Marked](), list[str]()
    for path, name, (height, width) in zip(pictures, below, sizes, strict=True):
        file = find(path)
        assert file is not None
        parts = [part for folder in Path(name).parts[:-1] if (part := part_named(folder))]
        parts = [lists[path.name]] if path.name in lists else parts
        objects = []
        if file.is_file():
            for line, told in _lines(file):
                try:
                    objects.append(_box(told, names, width, height))
                except ValueError as error:
                    problems.add(
                        DataError(str(error), "write: class x y width height, from 0 to 1", file=file, line=line)
                    )
        else:
            bare.append(name)
        marked.append(Marked(name, objects, str(file if file.is_file() else path), parts[0] if parts else None))
    problems.raise_if_any()
    findings = []
    if bare:
        title = f"{len(bare)} of {len(pictures)} pictures have no file of labels: nothing is to be found in them"
        findings.append(
            Finding(rule="pictures-without-labels", severity="info", title=title, evidence={"pictures": bare[:20]})
        )
    return table_of(marked, name=source.name, root=source, note="boxes in text files, as of YOLO", findings=findings)


def _box(words: list[str], names: list[str], width: int, height: int) -> tuple[str, float, float, float, float]:
    """From the words of a line, in fractions of the sides, to pixels.

    Raises:
        ValueError: saying what is wrong.
    """
    if len(words) != 5:
        raise ValueError(f"{len(words)} numbers are not the 5 of a box")
    try:
        code, (x, y, across, down) = int(words[0]), map(float, words[1:])
    except ValueError:
        raise ValueError(f'"{" ".join(words)}" is no class and four numbers') from None
    if names and not 0 <= code < len(names):
        raise ValueError(f"class {code} has no name; there are {len(names)}")
    if not np.isfinite([x, y, across, down]).all():
        raise ValueError("an edge is no number")
    edges = ((x - across / 2) * width, (y - down / 2) * height, (x + across / 2) * width, (y + down / 2) * height)
    left, top, right, bottom = (round(edge, 4) for edge in edges)  # six written decimals are no more exact
    return names[code] if names else str(code), left, top, right, bottom


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that has some; an empty file says that there is nothing."""
    if file.stat().st_size:
        data, _ = utf8(read_bytes(file), "", file)
        for line, text in enumerate(data.decode().splitlines(), start=1):
            if text.strip():
                yield line, text.split()


def _label_file(picture: Path) -> Path | None:
    """Where the boxes of a picture are: `labels` in place of the last `images` in its path."""
    parts = list(picture.parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            return Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")
    return None


def _beside(picture: Path) -> Path:
    """Where the boxes of a picture are in the layout of Darknet: beside it."""
    return picture.with_suffix(".txt")


def _is_flat(source: Path) -> bool:
    """Whether a picture here or in a folder below has a file of boxes beside it; the first that is not empty tells."""
    folders = [source, *(path for path in sorted(source.iterdir()) if path.is_dir())]
    for picture in (path for folder in folders for path in sorted(folder.iterdir())):
        file = _beside(picture)
        if picture.suffix.lower() in PICTURES and file.is_file() and file.stat().st_size:
            return BOX.match(file.read_bytes()[:LOOKED_AT]) is not None
    return False


def _lists(source: Path) -> dict[str, str]:
    """By the name of a picture the part whose list, such as `train.txt`, holds it."""
    named = dict[str, str]()
    for file in sorted(source.glob("*.txt")):
        if (part := part_named(file.stem)) and not any(file.with_suffix(ending).is_file() for ending in PICTURES):
            named |= {Path(" ".join(line)).name: part for _, line in _lines(file)}
    return named


def _names(folder: Path) -> list[str]:
    """The names of the classes, by their numbers; none where no file tells them.

    Raises:
        DataError: for a YAML file whose names are neither a list nor numbered.
    """
    for name in NAMED:
        if (folder / name).is_file():
            data, _ = utf8(read_bytes(folder / name), "", folder / name)
            listed = [line.strip() for line in data.decode().rstrip().splitlines()]
            if "" in listed:
                what = "this line is blank, and classes are numbered by their lines"
                raise DataError(what, "remove it, or name the class", file=folder / name, line=listed.index("") + 1)
            return listed
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        data, _ = utf8(read_bytes(file), "", file)
        if (names := _from_yaml(data.decode(), file)) is not None:
            return names
    return []


def _from_yaml(text: str, file: Path) -> list[str] | None:
    """`names` of a YAML file: `[a, b]`, a line `- a` for each, or `0: a`; other YAML is not needed."""
    lines = [line.split(" #")[0].rstrip() for line in text.splitlines()]
    start = next((at for at, line in enumerate(lines) if line.startswith("names:")), None)
    if start is None:
        return None
    written = lines[start].removeprefix("names:").strip()
    if written.startswith("["):
        for line in lines[start + 1 :]:
            if "]" in written:
                break
            written += line
        return [_unquoted(name) for name in LISTED.findall(written[1:].rpartition("]")[0]) if name.strip()]
    names = list[str]()
    for line in lines[start + 1 :]:
        if not line.strip():
            continue
        item = ITEM.match(line)
        if item is None:
            break
        if item["number"] and int(item["number"]) != len(names):
            raise DataError("names are not numbered from 0 in order", "number them so", file=file)
        names.append(_unquoted(item["name"]))
    if written or not names:
        raise DataError("names are no list", "write: names: [one, other]", file=file)
    return names


def _unquoted(name: str) -> str:
    name = name.strip()
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'" else name
