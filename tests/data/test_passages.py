"""Documents in stretches."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sounding.data.passages import STRETCH, stretches
from sounding.data.sources import read_source
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

HELD_OUT = {"test": 0.05, "validation": 0.05}


def table(texts: list[str], **columns: list[object]) -> Table:
    return Table(pa.table({"text": texts, **columns}), "some.csv")


def cells(result: Table, part: str = "") -> list[str]:
    every = result.data["text"].to_pylist()
    rows = result.parts[part] if part else range(len(every))
    return [every[row] for row in rows]


def joined(result: Table, part: str = "") -> str:
    return "".join(cells(result, part)).replace("\x1c", "")


def test_one_document_is_split_by_place() -> None:
    text = "".join(f"line {number} of é\n" for number in range(3000))
    result = stretches(table([text]), DataRecipe(), HELD_OUT)
    edges = [int(len(text) * 0.9), int(len(text) * 0.95)]
    assert joined(result, "train") == text[: edges[0]]
    assert joined(result, "validation") == text[edges[0] : edges[1]]
    assert joined(result, "test") == text[edges[1] :]
    assert all(len(cell.strip("\x1c").encode()) <= STRETCH for cell in cells(result))
    assert [cell.count("\x1c") for cell in cells(result)] == [1] + [0] * (len(result) - 1)
    assert "by place in the text: the first 90 % train, then 5 % validation, then 5 % test" in result.notes


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text("".join(f"{number}\n" for number in range(1, 2001)))
    result = stretches(read_source(file, DataRecipe(txt="document")), DataRecipe(), HELD_OUT)
    assert result.where(0) == (str(file), 1)
    stretch = cells(result)[3]
    assert stretch.startswith("\n")  # the end of the line before
    assert result.where(3) == (str(file), int(stretch.split()[0]) - 1)


def test_many_documents_are_held_out_whole() -> None:
    texts = [f"document {number} " * 100 for number in range(40)]
    result = stretches(table(texts), DataRecipe(), {"test": 0.1, "validation": 0.1}, seed=3)
    for part, count in (("train", 32), ("validation", 4), ("test", 4)):
        own = "".join(cells(result, part)).strip("\x1c").split("\x1c\x1c")
        assert len(own) == count
        assert set(own) <= set(texts)
    again = stretches(table(texts), DataRecipe(), {"test": 0.1, "validation": 0.1}, seed=3)
    assert again.data == result.data
    assert stretches(table(texts), DataRecipe(), {"test": 0.1, "validation": 0.1}, seed=4).data != result.data


def test_parts_that_are_given_are_kept() -> None:
    source = Table(
        pa.table({"text": ["a b " * 99, "c d " * 99, "e f"]}), "x", parts={"train": range(2), "test": range(2, 3)}
    )
    result = stretches(source, DataRecipe(), HELD_OUT)
    assert joined(result, "test") == "e f"
    assert "c d" in joined(result, "validation")


def test_without_parts_there_is_all_of_it() -> None:
    result = stretches(table(["some text"]), DataRecipe())
    assert cells(result) == ["\x1csome text"]
    assert not result.parts


def test_the_column_has_to_be_clear() -> None:
    words = [f"these are {number} words of a text" for number in range(30)]
    both = table(words, other=[f"and {word}" for word in words])
    with pytest.raises(DataError, match='"text", "other"'):
        stretches(both, DataRecipe())
    assert len(stretches(both, DataRecipe(ignore=["other"]))) == 30
    assert len(stretches(table(words, number=list(range(30))), DataRecipe())) == 30


def test_too_short_a_text_is_refused() -> None:
    with pytest.raises(DataError, match="too short for validation"):
        stretches(table(["ab"]), DataRecipe(), HELD_OUT)


def test_text_files_are_documents_or_lines(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("zwei\ndrei")
    (tmp_path / "a.txt").write_bytes("\ufeffeins\r\n".encode())
    (tmp_path / "c.csv").write_text("x\n1\n")
    folder = read_source(tmp_path, DataRecipe())
    assert folder.data["text"].to_pylist() == ["eins\r\n", "zwei\ndrei"]
    lines = read_source(tmp_path / "b.txt", DataRecipe(txt="lines"))
    assert lines.data["text"].to_pylist() == ["zwei", "drei"]
    assert lines.where(1) == (str(tmp_path / "b.txt"), 2)
    assert read_source(tmp_path / "b.txt", DataRecipe()).columns != ["text"]
    assert len(folder) == 2
