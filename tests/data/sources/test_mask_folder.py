from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from sounding.data.sources import mask_folder, read_source
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Picture.fromarray(np.zeros((4, 5), np.uint8)).save(folder / name)


def read(folder: Path) -> Table:
    return read_source(folder, DataRecipe())


def pairs(table: Table) -> list[tuple[str, str]]:
    return list(zip(table.data["image"].to_pylist(), table.data["mask"].to_pylist(), strict=True))


def test_pictures_and_masks_side_by_side(tmp_path: Path) -> None:
    fill(tmp_path / "images", "b.jpg", "a.png", "c.png")
    fill(tmp_path / "masks", "a.png", "b.png", "d.png")
    table = read(tmp_path)
    assert pairs(table) == [("images/a.png", "masks/a.png"), ("images/b.jpg", "masks/b.png")]
    assert (table.target, table.root, dict(table.parts)) == (("mask",), tmp_path, {})
    assert [(one.rule, one.evidence["files"]) for one in table.findings] == [
        ("pictures-without-mask", ["c"]),
        ("masks-without-picture", ["d"]),
    ]


@pytest.mark.parametrize(("pictures", "masks"), [("img", "gt"), ("Image", "label"), ("imgs", "annotations")])
def test_other_names_of_the_folders(tmp_path: Path, pictures: str, masks: str) -> None:
    fill(tmp_path / pictures, "a.png")
    fill(tmp_path / masks, "a_mask.png")
    assert pairs(read(tmp_path)) == [(f"{pictures}/a.png", f"{masks}/a_mask.png")]


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [("{part}/images", "{part}/masks"), ("images/{part}", "masks/{part}"), ("{part}", "{part}annot")],
    ids=["inside", "outside", "beside"],
)
def test_parts_of_a_split(tmp_path: Path, pictures: str, masks: str) -> None:
    for part, count in (("train", 3), ("val", 1), ("test", 2)):
        for place in (pictures, masks):
            fill(tmp_path / place.format(part=part), *(f"{part}{number}.png" for number in range(count)))
    table = read(tmp_path)
    assert {name: len(rows) for name, rows in table.parts.items()} == {"train": 3, "validation": 1, "test": 2}
    assert pairs(table)[3] == (pictures.format(part="val") + "/val0.png", masks.format(part="val") + "/val0.png")


def test_pascal_voc(tmp_path: Path) -> None:
    fill(tmp_path / "JPEGImages", *(f"{number}.jpg" for number in range(5)))
    fill(tmp_path / "SegmentationClass", *(f"{number}.png" for number in range(4)))
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, text in (("train", "0\n2\n"), ("val", "1\n"), ("trainval", "0\n1\n2\n")):
        (lists / f"{name}.txt").write_text(text)
    table = read(tmp_path)
    assert {name: list(rows) for name, rows in table.parts.items()} == {"train": [0, 1], "validation": [2]}
    assert pairs(table)[1] == ("JPEGImages/2.jpg", "SegmentationClass/2.png")
    (lists / "val.txt").write_text("1\n4\n")
    with pytest.raises(DataError, match=r'val\.txt:2: "4" has no picture, or no mask'):
        read(tmp_path)
    for file in lists.iterdir():
        file.unlink()
    assert len(read(tmp_path)) == 4


def test_folders_of_classes_are_no_masks(tmp_path: Path) -> None:
    fill(tmp_path / "cats", "a.png")
    fill(tmp_path / "masks", "b.png")
    assert not mask_folder.claims(tmp_path)
    assert read(tmp_path).target == ("label",)
    assert not mask_folder.claims(tmp_path / "cats")
    assert not mask_folder.claims("@digits")


def test_names_that_do_not_meet_are_an_error(tmp_path: Path) -> None:
    fill(tmp_path / "images", "a.png")
    fill(tmp_path / "masks", "b.png")
    with pytest.raises(DataError, match="no picture in images has a mask in masks"):
        read(tmp_path)
    fill(tmp_path / "images", "b.png", "b.jpg")
    with pytest.raises(DataError, match='two pictures are called "b"'):
        read(tmp_path)


def test_a_table_with_two_columns_of_paths(tmp_path: Path) -> None:
    fill(tmp_path / "x", *(f"{number}.png" for number in range(3)))
    (tmp_path / "t.csv").write_text("photo,shape\nx/0.png,x/1.png\nx/1.png,x/2.png\n")
    assert read(tmp_path / "t.csv").columns == ["photo", "shape"]
