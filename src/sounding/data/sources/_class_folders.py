"""What folders of pictures and of recordings share: each folder is a class, and those above may be the split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from sounding.data.sources._parts import by_part, part_named
from sounding.data.table import Origin, Table
from sounding.errors import DataError, Problems, printable
from sounding.finding import Finding


@dataclass(frozen=True)
class Sort:
    """What a folder is full of."""

    noun: str
    """`picture`."""
    column: str
    """Of their paths."""
    endings: frozenset[str]
    """Of their names, in lower case."""

    def holds(self, path: Path) -> bool:
        """Whether a file is one of them, by its name."""
        return path.suffix.lower() in self.endings and not path.name.startswith(".")


def is_full_of(sort: Sort, source: object) -> bool:
    """Whether it is a folder that has one in it or in a folder below."""
    return isinstance(source, Path) and source.is_dir() and any(sort.holds(path) for path, _ in _files(source))


def read_folder(sort: Sort, source: Path) -> Table:
    """A column of paths, relative to the folder, and `label` (the class); what is in no class folder has no label.

    Rows are in the order of part, class and path, so that equal folders make equal tables.
    """
    folders = {entry.name: entry for entry in _folders(source)}
    parts = {name: part for name in folders if (part := part_named(name))}
    findings: list[Finding] = []
    if "train" not in parts.values():
        return _read_part(sort, source, source, findings)
    aside = [name for name in folders if name not in parts and any(sort.holds(p) for p, _ in _files(folders[name]))]
    if aside:
        findings.append(
            _warning("folders-aside", f"{len(aside)} folders beside train are left out", {"folders": aside})
        )
    tables = {name: _read_part(sort, folders[name], source, findings) for name in parts}
    for name, table in list(tables.items()):
        if not table.target:  # files without classes, as in the test folder of a competition
            what = f"{name} has no class folders: left out"
            findings.append(_warning("no-labels", what, {f"{sort.noun}s": len(table)}))
            del tables[name]
    _compare_classes(tables, parts, findings)
    table = by_part(list(tables.values()), [parts[name] for name in tables], name=source.name, root=source)
    return _with(table, findings)


def _read_part(sort: Sort, folder: Path, root: Path, findings: list[Finding]) -> Table:
    problems = Problems()
    found: list[tuple[str | None, str]] = []
    others: Counter[str] = Counter()
    for path, name in _files(folder):
        if not sort.holds(path):
            others[path.suffix.lower() or path.name] += 1
        elif not is_utf8(str(path.relative_to(root))):
            what = f"the name {printable(name)} is not UTF-8"
            problems.add(DataError(what, "rename the file", file=folder))
        else:
            below = path.relative_to(folder).parts
            found.append((below[0] if len(below) > 1 else None, path.relative_to(root).as_posix()))
    problems.raise_if_any()
    if others:
        title = f"{others.total():,} file{'s' * (others.total() > 1)} in {folder.name} are no {sort.noun}s: left out"
        findings.append(
            Finding(
                rule=f"no-{sort.noun}s",
                severity="info",
                title=title,
                evidence={"endings": dict(others.most_common(20))},
            )
        )
    classed = [one for one in found if one[0] is not None]
    if classed and len(classed) < len(found):
        loose = len(found) - len(classed)
        findings.append(
            _warning("no-labels", f"{loose:,} {sort.noun}s are in no class folder: left out", {f"{sort.noun}s": loose})
        )
    rows = sorted(classed or found, key=lambda row: (row[0] or "", row[1]))
    columns = {sort.column: pa.array([path for _, path in rows], pa.string())}
    if classed:
        columns["label"] = pa.array([label for label, _ in rows], pa.string())
    table = Table(
        pa.table(columns),
        folder.name,
        (Origin(str(folder), len(rows)),),
        root=root,
        target=("label",) if classed else (),
        notes=(f"folder of {sort.noun}s",),
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


def is_utf8(name: str) -> bool:
    """Whether a name can be written down; the system hands over other bytes as lone surrogates."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)
