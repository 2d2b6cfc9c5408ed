"""Pictures with boxes as Pascal VOC, COCO and YOLO keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drawn import png, shapes

from sounding.data.sources import read_source
from sounding.data.sources import voc as voc_source
from sounding.data.sources import yolo as yolo_source
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


def test_of_a_folder_with_boxes_and_masks_what_is_asked_for_is_read(tmp_path: Path) -> None:
    folder = voc(tmp_path / "cells")
    (folder / "SegmentationClass").mkdir()
    for number in range(3):
        (folder / "SegmentationClass" / f"p{number}.png").write_bytes(png(PICTURES[number]))
    found = {task: read_source(folder, SETTINGS, task) for task in ("auto", "detection", "segmentation")}
    assert [table.task for table in found.values()] == ["detection", "detection", "segmentation"]
    assert (len(found["auto"]), len(found["segmentation"])) == (6, 3)
    assert found["auto"].notes[-1] == "read for detection; --task segmentation fits, too"
    assert found["segmentation"].notes[-1] == "read for segmentation; --task detection fits, too"
    assert read(voc(tmp_path / "boxes")).notes == ("boxes in XML, as of Pascal VOC",)


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


def coco(numbers: list[int], names: str = "p{}.png", **more: Any) -> dict[str, Any]:
    classes = ["square", "disc"]
    annotations = [
        {
            "id": 1000 + 10 * number + at,
            "image_id": 7 + number,
            "category_id": 3 + classes.index(box["label"]),
            "bbox": [box["left"], box["top"], box["right"] - box["left"], box["bottom"] - box["top"]],
            "iscrowd": 0,
        }
        for number in numbers
        for at, box in enumerate(BOXES[number])
    ]
    return {
        "images": [{"id": 7 + number, "file_name": names.format(number)} for number in numbers],
        "annotations": annotations,
        "categories": [{"id": 3 + code, "name": name} for code, name in enumerate(classes)],
        **more,
    }


def test_coco_in_one_file(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", [f"p{number}" for number in range(6)])
    file = tmp_path / "marked.json"
    file.write_text(json.dumps(coco([0, 1, 2, 3])))
    table = read(file)
    assert table.task == "detection"
    assert table.data["image"].to_pylist() == [f"images/p{number}.png" for number in range(4)]
    assert cells(table) == BOXES[:4]
    assert table.where(3) == (str(file), None)
    assert cells(read(tmp_path)) == BOXES[:4]  # the folder, too


def test_coco_with_a_file_for_each_part(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for part, numbers in (("train2017", [0, 2]), ("val2017", [1])):
        folder = tmp_path / part
        folder.mkdir()
        for number in numbers:
            (folder / f"p{number}.png").write_bytes(png(PICTURES[number]))
        (tmp_path / f"annotations/instances_{part}.json").write_text(json.dumps(coco(numbers)))
    table = read(tmp_path)
    assert table.data["image"].to_pylist() == ["train2017/p0.png", "train2017/p2.png", "val2017/p1.png"]
    assert table.parts == {"train": range(0, 2), "validation": range(2, 3)}
    assert cells(table) == [BOXES[number] for number in (0, 2, 1)]


def test_crowds_are_left_out_and_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"p{number}" for number in range(6)])
    known = coco(list(range(6)))
    known["annotations"][0]["iscrowd"] = 1
    (tmp_path / "marked.json").write_text(json.dumps(known))
    table = read(tmp_path / "marked.json")
    assert sum(map(len, cells(table))) == sum(map(len, BOXES)) - 1
    assert [finding.title for finding in table.findings] == [
        "1 boxes are around crowds, not around one thing: left out"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda known: known["annotations"][1].update(bbox=[1, 2, 3]), "annotation 2 has no bbox"),
        (lambda known: known["annotations"][0].update(category_id=99), "annotation 1 has .* a category or image"),
        (lambda known: known["images"][0].pop("file_name"), "an image no id and file_name"),
        (lambda known: known.update(categories={}), "there is no list of categories"),
        (lambda known: known["images"][0].update(file_name="gone.png"), "there is no picture gone.png"),
    ],
)
def test_bad_coco_is_named(tmp_path: Path, change: Any, said: str) -> None:
    write_pictures(tmp_path, [f"p{number}" for number in range(6)])
    known = coco(list(range(6)))
    change(known)
    (tmp_path / "marked.json").write_text(json.dumps(known))
    with pytest.raises(DataError, match=said) as error:
        read(tmp_path / "marked.json")
    assert "marked.json" in str(error.value)


def test_json_lines_are_no_coco(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"x": 1}\n{"x": 2}\n')
    assert len(read(tmp_path / "rows.json")) == 2


def yolo(folder: Path, yaml: str = "names: ['square', disc]\n") -> Path:
    for number, part in enumerate(["train", "train", "train", "val", "val", "test"]):
        write_pictures_one(folder / "images" / part, number)
        lines = [
            f"{['square', 'disc'].index(box['label'])} {(box['left'] + box['right']) / 120:.6f} "
            f"{(box['top'] + box['bottom']) / 80:.6f} {(box['right'] - box['left']) / 60:.6f} "
            f"{(box['bottom'] - box['top']) / 40:.6f}"
            for box in BOXES[number]
        ]
        (folder / "labels" / part).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / part / f"p{number}.txt").write_text("\n".join(lines))
    if yaml:
        (folder / "data.yaml").write_text(yaml)
    return folder


def write_pictures_one(folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"p{number}.png").write_bytes(png(PICTURES[number]))


YAMLS = (
    "train: images/train\nnames: ['square', disc]\n",
    "names:\n  0: square\n  1: disc  # round\nnc: 2\n",
    "nc: 2\nnames:\n- square\n- 'disc'\n",
    "names: [\n  square,\n  disc]\n",
)


@pytest.mark.parametrize("yaml", YAMLS)
def test_yolo(tmp_path: Path, yaml: str) -> None:
    table = read(yolo(tmp_path / "set", yaml))
    assert table.task == "detection"
    assert table.parts == {"train": range(0, 3), "validation": range(3, 5), "test": range(5, 6)}
    for found, true in zip(cells(table), BOXES, strict=True):
        assert [one["label"] for one in found] == [one["label"] for one in true]
        for one, other in zip(found, true, strict=True):
            for edge in ("left", "top", "right", "bottom"):
                assert one[edge] == pytest.approx(other[edge], abs=1e-3)
    for row, boxes in enumerate(BOXES):
        assert Path(str(table.where(row)[0])).name == f"p{row}.txt" or not boxes


def test_yolo_without_names_or_without_a_file(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "set", "")
    (folder / "labels/train/p0.txt").unlink()
    table = read(folder)
    assert cells(table)[0] == []
    assert {box["label"] for boxes in cells(table) for box in boxes} == {"0", "1"}
    assert [finding.rule for finding in table.findings] == ["pictures-without-labels"]


def darknet(folder: Path) -> Path:
    """The same pictures, with text files beside them, a file of names and lists of the parts."""
    nested = yolo(folder.parent / "nested")
    (folder / "obj").mkdir(parents=True)
    for path in [*nested.rglob("*.png"), *(nested / "labels").rglob("*.txt")]:
        path.rename(folder / "obj" / path.name)
    (folder / "obj.names").write_text("square\ndisc\n")
    return folder


def test_text_files_beside_their_pictures(tmp_path: Path) -> None:
    nested = read(yolo(tmp_path / "set"))
    flat = read(darknet(tmp_path / "flat"))
    assert (flat.task, flat.parts) == ("detection", {})
    by_name = [
        {Path(name).name: boxes for name, boxes in zip(one.data["image"].to_pylist(), cells(one), strict=True)}
        for one in (nested, flat)
    ]
    assert by_name[0] == by_name[1]
    assert flat.data["image"].to_pylist()[0] == "obj/p0.png"


def test_lists_beside_them_name_the_parts(tmp_path: Path) -> None:
    folder = darknet(tmp_path / "flat")
    for name, numbers in (("train", (3, 0, 1)), ("valid", (2, 4)), ("test", (5,))):
        (folder / f"{name}.txt").write_text("".join(f"data/obj/p{number}.png\n" for number in numbers))
    table = read(folder)
    names = [Path(name).stem for name in table.data["image"].to_pylist()]
    found = {part: {names[row] for row in rows} for part, rows in table.parts.items()}
    assert found == {"train": {"p0", "p1", "p3"}, "validation": {"p2", "p4"}, "test": {"p5"}}


def test_texts_beside_pictures_are_no_boxes(tmp_path: Path) -> None:
    write_pictures_one(tmp_path / "cats", 0)
    write_pictures_one(tmp_path / "dogs", 1)
    (tmp_path / "cats" / "p0.txt").write_text("5 cats in the sun, 3 of them asleep\n")
    assert not yolo_source.claims(tmp_path)
    (tmp_path / "cats" / "p0.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    assert yolo_source.claims(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.1", "4 numbers are not the 5 of a box"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", "7 numbers are not the 5 of a box"),
        ("one 0.5 0.5 0.1 0.1", "is no class and four numbers"),
        ("2 0.5 0.5 0.1 0.1", "class 2 has no name; there are 2"),
        ("1 0.5 nan 0.1 0.1", "an edge is no number"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    folder = yolo(tmp_path / "set")
    (folder / "labels/train/p1.txt").write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(DataError, match=said) as error:
        read(folder)
    assert "p1.txt:3" in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_in_any_encoding(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [<!ENTITY x "y">]><annotation/>'
    with pytest.raises(DataError, match="declares entities"):
        voc_source.parsed(text.encode(encoding), "a.xml")


def test_pictures_without_xml_are_told(tmp_path: Path) -> None:
    folder = voc(tmp_path / "voc")
    (folder / "JPEGImages" / "alone.png").write_bytes(png(PICTURES[0]))
    (told,) = (one for one in read(folder).findings if one.rule == "pictures-without-boxes")
    assert told.evidence == {"files": ["JPEGImages/alone.png"], "count": 1}


def test_keypoints_of_the_same_pictures_are_not_read_again(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["p0", "p1"])
    for name in ("instances_train.json", "person_keypoints_train.json"):
        (tmp_path / name).write_text(json.dumps(coco([0, 1])))
    table = read(tmp_path)
    assert len(table) == 2
    assert "person_keypoints_train.json left out" in table.notes[0]
    (tmp_path / "person_keypoints_train.json").rename(tmp_path / "other_train.json")
    with pytest.raises(DataError, match=r"p0\.png is listed in .*instances_train\.json, too"):
        read(tmp_path)


def test_quoted_names_may_hold_commas_and_blank_lines_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    assert yolo_source._from_yaml("names: ['car, red', 'bus', \"a, b\", it's]\n", file) == [
        *("car, red", "bus", "a, b", "it's"),
    ]
    file.write_text("car\n\nbus\n\n")
    with pytest.raises(DataError, match=r"classes\.txt.*2.*this line is blank"):
        yolo_source._names(tmp_path)
