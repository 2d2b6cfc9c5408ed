"""Folders of pictures and of their masks: side by side, in the parts of a split, or as Pascal VOC lays them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from sounding.data.sources._class_folders import is_utf8
from sounding.data.sources._files import read_bytes, utf8
from sounding.data.sources._parts import by_part, part_named
from sounding.data.sources.image_folder import PICTURES
from sounding.data.table import Origin, Table
from sounding.errors import DataError, Problems, printable
from sounding.finding import Finding
from sounding.recipe import DataRecipe

UNDERSTANDS = "a folder with pictures in images/ and masks in masks/ (also train/, trainannot/; Pascal VOC)"
TASK = "segmentation"

PICTURE_FOLDERS = ("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "jpegimages")
MASK_FOLDERS = (
    *("mask", "masks", "label", "labels", "annotation", "annotations", "annot", "gt", "groundtruth", "ground_truth"),
    *("seg", "segmentation", "segmentations", "segmentationclass", "labelids"),
)
ANNOTATED = ("annot", "_annot", "_labels", "_label", "_masks", "_mask", "masks", "labels")
"""What the name of a folder of masks adds to that of its pictures: `train` and `trainannot`."""
ADDED = ("_mask", "_label", "_labels", "_gt", "_seg", "_segmentation", "-mask", "_l")
"""What the name of a mask may add to that of its picture: `cat_mask.png`."""
VOC = ("JPEGImages", "SegmentationClass")
VOC_LISTS = "ImageSets/Segmentation"

Pair = tuple[Path, Path]


def claims(source: object) -> bool:
    """Whether it is a folder with a folder of pictures and one of masks."""
    return isinstance(source, Path) and source.is_dir() and bool(_pairs_of_folders(source))


def read(source: object, settings: DataRecipe) -> Table:
    """Columns `image` and `mask`: paths, relative to the folder; a mask belongs to the picture of its name.

    Pictures without a mask are left out, which is a finding, and so are masks without a picture.

    Raises:
        DataError: if no picture has a mask, or two pictures share one.
    """
    assert isinstance(source, Path)
    folders, findings = _pairs_of_folders(source), list[Finding]()
    lists = _lists(source, settings)
    tables, parts = [], list[str | None]()
    for part, (pictures, masks) in folders.items():
        pairs = _matched(pictures, masks, source, findings)
        if lists:
            tables += [_table(_listed(pairs, names, source, file), source) for file, names in lists.values()]
            parts += list(lists)
        else:
            tables.append(_table(pairs, source))
            parts.append(part or None)
    table = by_part(tables, parts, name=source.name, root=source)
    named = sorted({folder.name for pair in folders.values() for folder in pair})
    note = f"{len(table):,} pictures with masks, from {', '.join(named)}"
    return Table(
        table.data,
        source.name,
        table.origins,
        root=source,
        parts=table.parts,
        target=("mask",),
        task="segmentation",
        notes=(note,),
        findings=tuple(findings),
    )


def _table(pairs: list[Pair], root: Path) -> Table:
    names = [[path.relative_to(root).as_posix() for path in pair] for pair in pairs]
    columns = {name: pa.array([row[at] for row in names], pa.string()) for at, name in enumerate(("image", "mask"))}
    return Table(pa.table(columns), root.name, (Origin(str(root), len(pairs)),), root=root)


def _pairs_of_folders(source: Path) -> dict[str, Pair]:
    """By part the folders of pictures and of masks; the part is empty where there is no split."""
    if all((source / name).is_dir() for name in VOC):
        return {"": (source / VOC[0], source / VOC[1])}
    inside = _folders(source)
    if pair := _pair(inside):
        pictures, masks = (_folders(one) for one in pair)
        parts = {part: name for name in pictures if (part := part_named(name))}
        if "train" in parts and set(parts.values()) <= set(masks):  # images/train and masks/train
            return {part: (pictures[name], masks[name]) for part, name in parts.items()}
        return {"": pair}
    found = dict[str, Pair]()
    for name, folder in inside.items():
        part = part_named(name)
        if part is None:
            continue
        beside = next((inside[name + added] for added in ANNOTATED if name + added in inside), None)
        if pair := (folder, beside) if beside is not None else _pair(_folders(folder)):
            found[part] = pair
    return found


def _pair(folders: Mapping[str, Path]) -> Pair | None:
    """The folder of pictures and that of masks, by their names."""
    pictures = [folders[name] for name in PICTURE_FOLDERS if name in folders]
    masks = [folders[name] for name in MASK_FOLDERS if name in folders]
    return (pictures[0], masks[0]) if len(pictures) == len(masks) == 1 and _has_pictures(masks[0]) else None


def _has_pictures(folder: Path) -> bool:
    return next(_pictures(folder), None) is not None


def _folders(folder: Path) -> dict[str, Path]:
    """By their names in lower case."""
    return {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name[0] != "."}


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if PICTURES.holds(path) and path.is_file())


def _matched(pictures: Path, masks: Path, root: Path, findings: list[Finding]) -> list[Pair]:
    """Pictures with the masks of their names, in the order of the names."""
    problems, by_name = Problems(), dict[str, Path]()
    for path in _pictures(pictures):
        name = path.relative_to(pictures).with_suffix("").as_posix()
        if not is_utf8(str(path)):
            problems.add(DataError(f"the name {printable(name)} is not UTF-8", "rename the file", file=pictures))
        elif name in by_name:
            what = f'two pictures are called "{name}": {by_name[name].name} and {path.name}'
            problems.add(DataError(what, "give each a mask of its own", file=pictures))
        by_name[name] = path
    problems.raise_if_any()
    pairs, alone = list[Pair](), list[str]()
    for path in _pictures(masks):
        name = path.relative_to(masks).with_suffix("").as_posix()
        plain = next((name.removesuffix(added) for added in ADDED if name.removesuffix(added) in by_name), name)
        picture = by_name.pop(name, None) or by_name.pop(plain, None)
        if picture is None:
            alone.append(name)
        else:
            pairs.append((picture, path))
    if not pairs:
        what = f"no picture in {pictures.name} has a mask in {masks.name}"
        raise DataError(what, "call a mask as its picture: images/7.jpg and masks/7.png", file=root)
    for rule, noun, names, folder in (
        ("pictures-without-mask", "picture", sorted(by_name), pictures),
        ("masks-without-picture", "mask", alone, masks),
    ):
        if names:
            other = "mask" if noun == "picture" else "picture"
            title = (
                f"{len(names):,} {noun}{'s' * (len(names) > 1)} in {folder.name} have no {other}: left out, such as "
                f'"{printable(names[0])}"'
            )
            evidence = {"files": names[:20], "count": len(names), "folder": str(folder)}
            findings.append(Finding(rule=rule, severity="warning", title=title, evidence=evidence))
    return sorted(pairs)


def _lists(source: Path, settings: DataRecipe) -> dict[str, tuple[Path, list[str]]]:
    """By part the file that names its pictures, and these names; as Pascal VOC has them."""
    folder, found = source / VOC_LISTS, dict[str, tuple[Path, list[str]]]()
    if all((source / name).is_dir() for name in VOC) and folder.is_dir():
        for file in sorted(folder.glob("*.txt")):
            if part := part_named(file.stem):  # `trainval` holds what is in two others
                found[part] = file, utf8(read_bytes(file), settings.encoding, file)[0].decode().split()
    return found if "train" in found else {}


def _listed(pairs: list[Pair], names: list[str], source: Path, file: Path) -> list[Pair]:
    known = {picture.stem: (picture, mask) for picture, mask in pairs}
    for line, name in enumerate(names, start=1):
        if name not in known:
            what = f'"{name}" has no picture, or no mask in {VOC[1]}'
            raise DataError(what, "remove this line, or bring both files", file=file, line=line)
    return [known[name] for name in names]
