"""Folders of pictures: each folder is a class, and `train`, `validation` and `test` above them are the split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from sounding.data.sources._parts import by_part, part_named
from sounding.data.table import Origin, Table
from sounding.errors import DataError, Problems, printable
from sounding.finding import Finding
from sounding.recipe import DataRecipe

UNDERSTANDS = "a folder of pictures, or of folders of pictures named after their class"

SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
}


def claims(source: object) -> bool:
    """Whether it is a folder that has a picture in it or in a folder below."""
    return isinstance(source, Path) and source.is_dir() and any(_is_picture(path) for path, _ in _files(source))


def read(source: object, settings: DataRecipe) -> Table:
    """Columns `image` (the path, relative to the folder) and `label` (the class); pictures without class have no label.

    Rows are in the order of part, class and path, so that equal folders make equal tables.
    """
    assert isinstance(source, Path)
    folders = {entry.name: entry for entry in _folders(source)}
    parts = {name: part for name in folders if (part := part_named(name))}
    findings: list[Finding] = []
    if "train" not in parts.values():
        return _read_part(source, source, findings)
    aside = [name for name in folders if name not in parts and any(_is_picture(p) for p, _ in _files(folders[name]))]
    if aside:
        findings.append(
            _warning("folders-aside", f"{len(aside)} folders beside train are left out", {"folders": aside})
        )
    tables = {name: _read_part(folders[name], source, findings) for name in parts}
    for name, table in list(tables.items()):
        if not table.target:  # pictures without classes, as in the test folder of a competition
            findings.append(_warning("no-labels", f"{name} has no class folders: left out", {"pictures": len(table)}))
            del tables[name]
    _compare_classes(tables, parts, findings)
    table = by_part(list(tables.values()), [parts[name] for name in tables], name=source.name, root=source)
    return _with(table, findings)


def _read_part(folder: Path, root: Path, findings: list[Finding]) -> Table:
    problems = Problems()
    pictures: list[tuple[str | None, str]] = []
    others: Counter[str] = Counter()
    for path, name in _files(folder):
        if not _is_picture(path):
            others[path.suffix.lower() or path.name] += 1
        elif not _is_utf8(str(path.relative_to(root))):
            what = f"the name {printable(name)} is not UTF-8"
            problems.add(DataError(what, "rename the file", file=folder))
        else:
            below = path.relative_to(folder).parts
            pictures.append((below[0] if len(below) > 1 else None, path.relative_to(root).as_posix()))
    problems.raise_if_any()
    if others:
        title = f"{others.total():,} file{'s' * (others.total() > 1)} in {folder.name} are no pictures: left out"
        findings.append(
            Finding(
                rule="no-pictures",
                severity="info",
                title=title,
                evidence={"endings": dict(others.most_common(20))},
            )
        )
    classed = [picture for picture in pictures if picture[0] is not None]
    if classed and len(classed) < len(pictures):
        loose = len(pictures) - len(classed)
        findings.append(
            _warning("no-labels", f"{loose:,} pictures are in no class folder: left out", {"pictures": loose})
        )
    rows = sorted(classed or pictures, key=lambda row: (row[0] or "", row[1]))
    columns = {"image": pa.array([path for _, path in rows], pa.string())}
    if classed:
        columns["label"] = pa.array([label for label, _ in rows], pa.string())
    table = Table(
        pa.table(columns),
        folder.name,
        (Origin(str(folder), len(rows)),),
        root=root,
        target=("label",) if classed else (),
        notes=("folder of pictures",),
    )
    return _with(table, findings) if folder == root else table


def _compare_classes(tables: dict[str, Table], parts: dict[str, str], findings: list[Finding]) -> None:
    trained = {
        label for name, table in tables.items() if parts[name] == "train" for label in table.data["label"].to_pylist()
    }
    for name, table in tables.items():
        unknown = sorted(set(table.data["label"].to_pylist()) - trained)
        if unknown:
            title = f"{name} has {len(unknown)} classes that train has not: {', '.join(unknown[:5])}"
            findings.append(_warning("unseen-classes", title, {"part": name, "classes": unknown}))


def _with(table: Table, findings: list[Finding]) -> Table:
    return replace(table, findings=(*table.findings, *findings))


def _warning(rule: str, title: str, evidence: dict[str, object]) -> Finding:
    return Finding(rule=rule, severity="warning", title=title, evidence=evidence)


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry.name))


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a folder; links to folders are not followed, since they can lead in circles."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(names):
            yield Path(where, name), name


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _is_utf8(name: str) -> bool:
    """Whether a name can be written down; the system hands over other bytes as lone surrogates."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)
