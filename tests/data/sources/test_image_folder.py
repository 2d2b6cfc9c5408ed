from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from sounding.data.sources import read_source
from sounding.errors import DataError
from sounding.recipe import DataRecipe


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(path, "PNG")


def test_class_folders_become_labels_in_a_stable_order(tmp_path: Path) -> None:
    for name in ("dog/2.png", "dog/10.PNG", "cat/deep/1.jpg", "cat/z.png"):
        picture(tmp_path / name)
    table = read_source(tmp_path, DataRecipe())
    assert table.data.to_pydict() == {
        "image": ["cat/deep/1.jpg", "cat/z.png", "dog/10.PNG", "dog/2.png"],
        "label": ["cat", "cat", "dog", "dog"],
    }
    assert table.target == ("label",)
    assert table.root == tmp_path
    assert not table.parts
    assert not table.findings


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_train_validation_and_test_become_parts(tmp_path: Path, validation: str) -> None:
    for name in ("train/cat/1.png", "train/dog/1.png", f"{validation}/cat/2.png", "test/dog/3.png"):
        picture(tmp_path / name)
    table = read_source(tmp_path, DataRecipe())
    assert dict(table.parts) == {"train": range(0, 2), "validation": range(2, 3), "test": range(3, 4)}
    assert table.data["image"].to_pylist()[2] == f"{validation}/cat/2.png"
    assert (table.root / table.data["image"][3].as_py()).is_file()


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/1.png", "test/bird/1.png", "val/1.png", "extra/cat/1.png"):
        picture(tmp_path / name)
    (tmp_path / "train/cat/Thumbs.db").write_bytes(b"x")
    (tmp_path / "train/dog/.DS_Store").write_bytes(b"x")
    table = read_source(tmp_path, DataRecipe())
    found = {finding.rule: finding for finding in table.findings}
    assert set(found) == {"no-pictures", "folders-aside", "no-labels", "unseen-classes"}
    assert found["no-pictures"].evidence["endings"] == {".db": 1, ".DS_Store": 1}
    assert found["folders-aside"].evidence["folders"] == ["extra"]
    assert found["unseen-classes"].evidence["classes"] == ["bird"]
    assert dict(table.parts) == {"train": range(0, 2), "test": range(2, 3)}


def test_pictures_without_classes_are_only_inputs(tmp_path: Path) -> None:
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.png")
    table = read_source(tmp_path, DataRecipe())
    assert table.data.to_pydict() == {"image": ["a.png", "b.png"]}
    assert table.target == ()


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """IM-20."""
    picture(tmp_path / "cat/1.png")
    Path(os.fsdecode(os.fsencode(tmp_path / "cat") + b"/\xff.jpg")).write_bytes(b"x")
    with pytest.raises(DataError, match="is not UTF-8") as caught:
        read_source(tmp_path, DataRecipe())
    str(caught.value).encode("utf-8")


def test_a_name_with_a_newline_and_quotes_is_kept(tmp_path: Path) -> None:
    """IM-20."""
    picture(tmp_path / 'cat/a\n"b".png')
    assert read_source(tmp_path, DataRecipe()).data["image"].to_pylist() == ['cat/a\n"b".png']


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    picture(tmp_path / "cat/1.png")
    (tmp_path / "cat/again").symlink_to(tmp_path)
    assert len(read_source(tmp_path, DataRecipe())) == 1
