"""Boxes in the layout of Pascal VOC: an XML file for each picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.parsers import expat

from sounding.data.sources._boxes import PICTURES, Marked, table_of
from sounding.data.sources._files import read_bytes
from sounding.data.sources._parts import PARTS, part_named
from sounding.data.table import Table
from sounding.errors import DataError, Problems
from sounding.finding import Finding
from sounding.recipe import DataRecipe

UNDERSTANDS = "a folder of pictures with boxes: Pascal VOC (XML)"
TASK = "detection"

CORNERS = ("xmin", "ymin", "xmax", "ymax")
SETS = "ImageSets/Main"
"""Below the folder: lists of names, one for each part."""


def claims(source: object) -> bool:
    """Whether it is a folder with XML files in `Annotations`, or beside the pictures of its parts or of itself."""
    if not isinstance(source, Path) or not source.is_dir():
        return False
    places = [source, source / "Annotations", *(folder for folder in _folders(source) if part_named(folder.name))]
    return any(path.suffix == ".xml" for place in places if place.is_dir() for path in place.iterdir())


def read(source: object, settings: DataRecipe) -> Table:
    """Columns `image` and `boxes`; the parts are those of `ImageSets/Main`, or of folders called train and so on."""
    assert isinstance(source, Path)
    files = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}
    annotations = {name: read_bytes(path) for name, path in files.items() if name.endswith(".xml")}
    lists = {name: read_bytes(path) for name, path in files.items() if SETS in name and name.endswith(".txt")}
    pictures = [name for name in files if PurePosixPath(name).suffix.lower() in PICTURES]
    marked, findings = marked_in(annotations, pictures, lists, str(source))
    return table_of(marked, name=source.name, root=source, note="boxes in XML, as of Pascal VOC", findings=findings)


def marked_in(
    annotations: Mapping[str, bytes], pictures: Sequence[str], lists: Mapping[str, bytes], place: str
) -> tuple[list[Marked], list[Finding]]:
    """What is marked in pictures, and what is odd.

    annotations:  content of XML files by path; those that are about no picture are left out.
    pictures:     paths.
    lists:        content of the files in `ImageSets/Main` by path.
    place:        what paths are below, for messages.

    Raises:
        DataError: for XML that cannot be read, a picture that is not there, a listed name without an annotation.
    """
    problems = Problems()
    by_name = {PurePosixPath(path).name: path for path in pictures}
    by_stem = {PurePosixPath(path).stem: path for path in pictures}
    beside = {str(PurePosixPath(path).with_suffix("")): path for path in pictures}
    found: dict[str, Marked] = {}
    for path, content in annotations.items():
        file = f"{place}/{path}"
        try:
            named, objects = parsed(content, file)
        except DataError as error:
            problems.add(error)
            continue
        stem = PurePosixPath(path).stem
        picture = beside.get(str(PurePosixPath(path).with_suffix(""))) or by_stem.get(stem) or by_name.get(named)
        if picture is None:
            problems.add(
                DataError(f"there is no picture {stem} or {named}", "bring it, or remove this file", file=file)
            )
            continue
        part = next((part for folder in PurePosixPath(path).parts[:-1] if (part := part_named(folder))), None)
        found[stem if lists else path] = Marked(picture, objects, file, part)
    marked, findings = _listed(found, lists, place, problems) if lists else (list(found.values()), list[Finding]())
    problems.raise_if_any()
    told = {one.picture for one in found.values()}
    if bare := [picture for picture in pictures if picture not in told]:
        title = f'{len(bare):,} picture{"s" * (len(bare) > 1)} without an XML file: left out, such as "{bare[0]}"'
        evidence = {"files": bare[:20], "count": len(bare)}
        findings.append(Finding(rule="pictures-without-boxes", severity="warning", title=title, evidence=evidence))
    return marked, findings


def parsed(content: bytes, file: str) -> tuple[str, list[tuple[str, float, float, float, float]]]:
    """The name of a picture and what is marked in it; corners are taken as they stand, as pixels from (0, 0).

    Raises:
        DataError: for anything but a plain annotation.
    """
    _refuse_doctype(content, file)
    try:
        tree = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        line, column = error.position
        raise DataError(f"this is no XML: {error.msg.split(':')[0]} at column {column}", file=file, line=line) from None
    if tree.tag != "annotation":
        raise DataError(f"the XML is about <{tree.tag}>, not an <annotation>", "remove this file", file=file)
    objects = []
    for at, one in enumerate(tree.iter("object"), start=1):
        label, box = (one.findtext("name") or "").strip(), one.find("bndbox")
        try:
            left, top, right, bottom = (
                float((box.findtext(corner) if box is not None else None) or "") for corner in CORNERS
            )
        except ValueError:
            what = f"object {at} has no bndbox of four numbers"
            raise DataError(what, f"give it {', '.join(CORNERS)}", file=file) from None
        if not label:
            raise DataError(f"object {at} has no name", "give it one, or remove it", file=file)
        objects.append((label, left, top, right, bottom))
    return (tree.findtext("filename") or "").strip(), objects


def _refuse_doctype(content: bytes, file: str) -> None:
    """See that the XML declares no entities, in whatever encoding it is written."""

    def refuse(*_: object) -> None:
        raise DataError("the XML declares entities, and these are not read", "remove its DOCTYPE", file=file)

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    with suppress(expat.ExpatError):  # which is told where the tree is read
        parser.Parse(content, True)


def _listed(
    found: Mapping[str, Marked], lists: Mapping[str, bytes], place: str, problems: Problems
) -> tuple[list[Marked], list[Finding]]:
    """Those that the lists name, in their order, and a finding where there are others."""
    parts = {path: part for path in lists if (part := part_named(PurePosixPath(path).stem))}
    parts = dict(sorted(parts.items(), key=lambda pair: list(PARTS).index(pair[1])))
    marked = dict[str, Marked]()
    for path in parts:
        for line, text in enumerate(lists[path].decode("utf-8", "replace").splitlines(), start=1):
            words = text.split()
            if not words:
                continue
            if words[0] not in found:
                what = f"{words[0]} has no annotation"
                problems.add(DataError(what, "bring it, or remove this line", file=f"{place}/{path}", line=line))
            elif words[0] in marked:
                what = f"{words[0]} is in {marked[words[0]].part}, too"
                problems.add(DataError(what, "leave it in one part", file=f"{place}/{path}", line=line))
            else:
                marked[words[0]] = found[words[0]]._replace(part=parts[path])
    if not marked:
        return list(found.values()), []
    aside = sorted(set(found) - set(marked))
    if not aside:
        return list(marked.values()), []
    title = f"{len(aside)} pictures are in none of the lists of {SETS}: left out"
    return list(marked.values()), [
        Finding(rule="pictures-aside", severity="warning", title=title, evidence={"pictures": aside[:20]})
    ]


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir()]
