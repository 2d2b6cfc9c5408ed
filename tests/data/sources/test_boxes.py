"""Pictures with boxes as Pascal VOC, COCO and YOLO keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drawn import png, shapes

from sounding.data.sources import read_source
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

SETTINGS = DataRecipe()
PICTURES, BOXES = shapes(6, seed=3, size=(40, 60))


def write_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in zip(names, PICTURES, strict=False):
        (folder / f"{name}.png").write_bytes(png(picture))


def cells(table: Table) -> list[Any]:
    return list(table.data["boxes"].to_pylist())


def read(folder: Path) -> Table:
    return read_source(folder, SETTINGS)


def xml(boxes: list[Any], name: str = "x.png") -> str:
    objects = "".join(
        f"<object><name>{box['label']}</name><difficult>0</difficult><bndbox><xmin>{box['left']}</xmin>"
        f"<ymin>{box['top']}</ymin><xmax>{box['right']}</xmax><ymax>{box['bottom']}</ymax></bndbox></object>"
        for box in boxes
    )
    return f"<annotation><filename>{name}</filename><size><width>60</width></size>{objects}</annotation>"


def voc(folder: Path, lists: dict[str, str] | None = None) -> Path:
    names = [f"p{number}" for number in range(6)]
    write_pictures(folder / "JPEGImages", names)
    (folder / "Annotations").mkdir()
    for name, boxes in zip(names, BOXES, strict=True):
        (folder / "Annotations" / f"{name}.xml").write_text(xml(boxes, f"{name}.png"))
    if lists:
        (folder / "ImageSets/Main").mkdir(parents=True)
        for part, text in lists.items():
            (folder / "ImageSets/Main" / f"{part}.txt").write_text(text)
    return folder


def test_voc_without_lists(tmp_path: Path) -> None:
    table = read(voc(tmp_path / "cells"))
    assert table.task == "detection"
    assert table.target == ("boxes",)
    assert table.data["image"].to_pylist() == [f"JPEGImages/p{number}.png" for number in range(6)]
    assert cells(table) == BOXES
    assert table.parts == {}
    assert table.where(4) == (str(tmp_path / "cells/Annotations/p4.xml"), None)


def test_lists_are_the_parts(tmp_path: Path) -> None:
    lists = {"train": "p3\np1 1\n", "val": "p0\n", "test": "p5\n\n", "trainval": "p0\np1\np3\n"}
    table = read(voc(tmp_path / "cells", lists))
    assert table.data["image"].to_pylist() == [f"JPEGImages/p{number}.png" for number in (3, 1, 0, 5)]
    assert table.parts == {"train": range(0, 2), "validation": range(2, 3), "test": range(3, 4)}
    assert cells(table) == [BOXES[number] for number in (3, 1, 0, 5)]
    (finding,) = table.findings
    assert finding.title == "2 pictures are in none of the lists of ImageSets/Main: left out"


def test_annotations_beside_pictures_in_folders_of_parts(tmp_path: Path) -> None:
    for part, number in (("train", 0), ("valid", 1), ("test", 2)):
        folder = tmp_path / "set" / part
        folder.mkdir(parents=True)
        (folder / "same.png").write_bytes(png(PICTURES[number]))
        (folder / "same.xml").write_text(xml(BOXES[number]))
    table = read(tmp_path / "set")
    assert table.data["image"].to_pylist() == ["train/same.png", "valid/same.png", "test/same.png"]
    assert list(table.parts) == ["train", "validation", "test"]
    assert cells(table) == BOXES[:3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<annotation><object>", r"p2.xml:1: this is no XML: no element found"),
        ("<html></html>", "the XML is about <html>"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation/>', "declares entities"),
        ("<annotation><object><name>a</name></object></annotation>", "object 1 has no bndbox of four numbers"),
        (xml([{**BOXES[1][0], "left": "wide"}]) if BOXES[1] else "<annotation/>x", "object 1 has no bndbox|no XML"),
        (xml([{"label": " ", "left": 1, "top": 1, "right": 2, "bottom": 2}]), "object 1 has no name"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path: Path, content: str, said: str) -> None:
    folder = voc(tmp_path / "cells")
    (folder / "Annotations/p2.xml").write_text(content)
    with pytest.raises(DataError, match=said) as error:
        read(folder)
    assert "p2.xml" in str(error.value)


def test_pictures_and_annotations_have_to_be_there(tmp_path: Path) -> None:
    folder = voc(tmp_path / "cells", {"train": "p0\np9\n", "test": "p0\n"})
    (folder / "JPEGImages/p4.png").unlink()
    with pytest.raises(DataError) as error:
        read(folder)
    said = str(error.value)
    assert "p4.xml: there is no picture p4 or p4.png" in said
    assert "train.txt:2: p9 has no annotation" in said
    assert "p0 is in train, too" in said
