from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sounding.data.sources import read_source
from sounding.errors import DataError
from sounding.recipe import DataRecipe


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        stem, _, language = name.rpartition("_")
        (folder / f"{stem}.{language}").write_text(text, encoding="utf-8")
    return folder


def test_files_of_one_name_are_columns(tmp_path: Path) -> None:
    table = read_source(write(tmp_path, news_en="one\ntwo\n", news_de="eins\nzwei\n"), DataRecipe())
    assert table.data.to_pylist() == [{"de": "eins", "en": "one"}, {"de": "zwei", "en": "two"}]
    assert not table.parts
    assert table.where(1) == (str(tmp_path / "news.de"), 2)


def test_parts_are_told_by_the_names(tmp_path: Path) -> None:
    write(tmp_path, train_en="a\nb\n", train_de="A\nB\n", val_en="c\n", val_de="C\n")
    (tmp_path / "test_2016_flickr.en.gz").write_bytes(gzip.compress(b"d\n"))
    (tmp_path / "test_2016_flickr.de.gz").write_bytes(gzip.compress(b"D"))
    (tmp_path / "README.md").write_text("not a language")
    table = read_source(tmp_path, DataRecipe())
    assert table.data.column("en").to_pylist() == ["a", "b", "c", "d"]
    assert table.data.column("de").to_pylist() == ["A", "B", "C", "D"]
    assert {part: list(rows) for part, rows in table.parts.items()} == {
        "train": [0, 1],
        "validation": [2],
        "test": [3],
    }
    assert any("train (2 lines)" in note for note in table.notes)


def test_a_file_alone_is_one_column(tmp_path: Path) -> None:
    table = read_source(write(tmp_path, new_en="one\n\ntwo") / "new.en", DataRecipe())
    assert table.data.to_pylist() == [{"en": "one"}, {"en": ""}, {"en": "two"}]


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    table = read_source(write(tmp_path, a_en="one\u2028two\x0cthree\r\nfour\n") / "a.en", DataRecipe())
    assert table.data.column("en").to_pylist() == ["one\u2028two\x0cthree", "four"]


def test_different_numbers_of_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 lines in en, 2 in de; give as many in both") as caught:
        read_source(write(tmp_path, a_en="one\n", a_de="eins\nzwei\n"), DataRecipe())
    assert str(caught.value).startswith(str(tmp_path / "a.en"))


def test_three_languages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="files in de, en, fr; leave those in two languages"):
        read_source(write(tmp_path, a_en="x\n", a_de="x\n", a_fr="x\n"), DataRecipe())
