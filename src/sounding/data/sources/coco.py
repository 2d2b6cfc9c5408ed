"""Boxes in the layout of COCO: one JSON file for many pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sounding.data.sources._boxes import Marked, table_of
from sounding.data.sources._files import read_bytes, utf8
from sounding.data.sources._parts import part_named
from sounding.data.table import Table
from sounding.errors import DataError, Problems
from sounding.finding import Finding
from sounding.recipe import DataRecipe

UNDERSTANDS = "a JSON file, or a folder with some, of pictures with boxes as COCO keeps them"
TASK = "detection"

KEYS = ("images", "annotations", "categories")
WORD = re.compile(r"[^a-zA-Z]+")
INSTANCES, KEYPOINTS = "instances_", "person_keypoints_"
"""How the names of files begin that tell of the same pictures; the second has boxes of persons alone."""
DEEPEST = 2
"""Folders below which JSON files are looked for."""


def claims(source: object) -> bool:
    """Whether it is a JSON file that speaks of images, annotations and categories, or a folder with one."""
    return isinstance(source, Path) and (_is_one(source) if source.is_file() else bool(_files(source)))


def read(source: object, settings: DataRecipe) -> Table:
    """Columns `image` and `boxes`; in the parts that the names of files, or of their folders, say.

    Raises:
        DataError: for a file of another form, an annotation of nothing, or pictures that are not there.
    """
    assert isinstance(source, Path)
    files, root = ([source], source.parent) if source.is_file() else (_files(source), source)
    aside = [file for file in files if _repeats(file, files)]
    files = [file for file in files if file not in aside]
    marked, crowds = list[Marked](), 0
    for file in files:
        some, others = _of_file(file, root, _part_of(file, root) if len(files) > 1 else None)
        marked += some
        crowds += others
    _refuse_twice(marked)
    findings = []
    if crowds:
        title = f"{crowds} boxes are around crowds, not around one thing: left out"
        findings.append(Finding(rule="boxes-crowds", severity="warning", title=title, evidence={"boxes": crowds}))
    note = "boxes in JSON, as of COCO"
    if aside:
        note += f"; {', '.join(file.name for file in aside)} left out, of the same pictures as {INSTANCES}..."
    return table_of(marked, name=source.name, root=root, note=note, findings=findings)


def _repeats(file: Path, files: Sequence[Path]) -> bool:
    """Whether the same pictures are told of by a file of instances beside it."""
    return file.name.startswith(KEYPOINTS) and file.with_name(INSTANCES + file.name.removeprefix(KEYPOINTS)) in files


def _refuse_twice(marked: Sequence[Marked]) -> None:
    """See that no picture is listed twice in a part."""
    first = dict[tuple[str | None, str], str]()
    for one in marked:
        key = one.part, one.picture
        if key in first:
            raise DataError(f"{one.picture} is listed in {first[key]}, too", "leave it in one place", file=one.file)
        first[key] = one.file


def _of_file(file: Path, root: Path, part: str | None) -> tuple[list[Marked], int]:
    """What is marked in the pictures of a file, and how many crowds are left out."""
    known = _parsed(file)
    problems = Problems()
    try:
        names = {one["id"]: str(one["name"]) for one in known["categories"]}
        pictures = {one["id"]: str(one["file_name"]) for one in known["images"]}
    except (KeyError, TypeError):
        what = "a category has no id and name, or an image no id and file_name"
        raise DataError(what, "complete it", file=file) from None
    boxes: dict[Any, list[tuple[str, float, float, float, float]]] = {number: [] for number in pictures}
    crowds = 0
    for at, one in enumerate(known["annotations"]):
        try:
            left, top, width, height = (float(edge) for edge in one["bbox"])
            label, listed = names[one["category_id"]], boxes[one["image_id"]]
        except (KeyError, TypeError, ValueError):
            what = f"annotation {at + 1} has no bbox of four numbers, or a category or image that is not listed"
            problems.add(DataError(what, "correct it, or remove it", file=file))
            continue
        crowds += bool(one.get("iscrowd"))
        if not one.get("iscrowd"):
            listed.append((label, left, top, left + width, top + height))
    problems.raise_if_any()
    folder = _folder_of(file, root, list(pictures.values()))
    return [Marked(folder + pictures[number], boxes[number], str(file), part) for number in pictures], crowds


def _parsed(file: Path) -> Mapping[str, list[Any]]:
    data, _ = utf8(read_bytes(file), "", file)
    try:
        known = json.loads(data)
    except json.JSONDecodeError as error:
        raise DataError(f"this is no JSON: {error.msg}", "correct it", file=file, line=error.lineno) from None
    lacking = [key for key in KEYS if not isinstance(known, dict) or not isinstance(known.get(key), list)]
    if lacking:
        raise DataError(f"there is no list of {' and of '.join(lacking)}", f"COCO has {', '.join(KEYS)}", file=file)
    return dict(known)


def _folder_of(file: Path, root: Path, pictures: list[str]) -> str:
    """Where below the root the pictures are, with a slash behind it: beside the file, in a folder of its name, ..."""
    stem = file.stem.removeprefix(INSTANCES).removeprefix("_annotations")
    places = [file.parent, root, root / stem, root / "images", root / "images" / stem, file.parent / "images"]
    places += [folder for folder in (file.parent, root) for folder in sorted(folder.iterdir()) if folder.is_dir()]
    for place in places:
        if pictures and (place / pictures[0]).is_file() and place.is_relative_to(root):
            below = place.relative_to(root).as_posix()
            return "" if below == "." else f"{below}/"
    if not pictures:
        raise DataError("no image is listed", "give a file with some", file=file)
    raise DataError(f"there is no picture {pictures[0]}", "bring the pictures beside this file", file=file)


def _part_of(file: Path, root: Path) -> str | None:
    words = [*WORD.split(file.stem), *file.relative_to(root).parts[:-1]]
    return next((part for word in words if (part := part_named(word))), None)


def _files(folder: Path) -> list[Path]:
    """The files of this form in a folder and not far below."""
    if not folder.is_dir():
        return []
    depths = ("/".join(["*"] * depth + ["*.json"]) for depth in range(DEEPEST))
    return sorted(path for depth in depths for path in folder.glob(depth) if _is_one(path))


def _is_one(path: Path) -> bool:
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    data = path.read_bytes()
    return data.lstrip()[:1] == b"{" and all(f'"{key}"'.encode() in data for key in KEYS)
