from __future__ import annotations

import csv as reference
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sounding.data.sources import read_source
from sounding.data.sources.csv import parse
from sounding.errors import DataError
from sounding.recipe import DataRecipe

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", " ", '"', '""', "a\nb", "\r", "\r\n", "x,y", "\n\n", "\t", "ü", "1.5", "NA", '5" pipe']
)


def read(data: bytes | str, **values: object) -> dict[str, list[str]]:
    data = data.encode() if isinstance(data, str) else data
    cells: dict[str, list[str]] = parse(data, DataRecipe(**values), file="a.csv").data.to_pydict()  # type: ignore[arg-type]
    return cells


def quoted(cell: str, separator: str, every: bool, row: list[str]) -> str:
    if every or row == [""] or any(character in cell for character in f'"\r\n{separator}'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


@st.composite
def written(draw: st.DrawFn) -> tuple[list[list[str]], str, str, bool, bool]:
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1, max_size=6))
    return (
        rows,
        draw(st.sampled_from(",;|")),
        draw(st.sampled_from(["\n", "\r\n", "\r"])),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@settings(max_examples=150, deadline=None)
@given(written())
def test_cells_and_lines_are_those_of_the_standard_library(
    case: tuple[list[list[str]], str, str, bool, bool],
) -> None:
    rows, separator, end, every, gap = case
    names = [f"name {position}" for position in range(len(rows[0]))]
    written_rows = [separator.join(quoted(cell, separator, every, row) for cell in row) for row in [names, *rows]]
    if gap:  # which only the exact reader goes over
        written_rows.insert(2, "")
    text = "".join(row + end for row in written_rows)

    reader = reference.reader(io.StringIO(text, newline=""), delimiter=separator)
    expected, lines = [], []
    line = 1
    for cells in reader:
        if len(cells) == len(names):
            expected.append(cells)
            lines.append(line)
        line = reader.line_num + 1
    assert expected[1:] == rows

    recipe = DataRecipe(separator=separator, header="yes")
    table = parse(text.encode(), recipe, file="a.csv")
    assert [list(row) for row in zip(*table.data.to_pydict().values(), strict=True)] == rows
    assert [table.where(row)[1] for row in range(len(rows))] == lines[1:]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_recognised(separator: str) -> None:
    text = separator.join(["name", "city"]) + "\n" + separator.join(["Ana", "Lima"]) + "\n"
    assert read(text) == {"name": ["Ana"], "city": ["Lima"]}


def test_a_comma_in_numbers_does_not_separate() -> None:
    assert read("1,5;2\n2,5;3\n") == {"column_1": ["1,5", "2,5"], "column_2": ["2", "3"]}


def test_one_column_of_sentences() -> None:
    assert read("text\nHello you\nfine, thanks\nand you\nwell\n") == {
        "text": ["Hello you", "fine, thanks", "and you", "well"]
    }


def test_a_given_separator_goes_first() -> None:
    assert read("a b,c\n1 2,3\n", separator=" ") == {"a": ["1"], "b,c": ["2,3"]}
    assert read("a,b\tc\n1,2\t3\n", separator="tab") == {"a,b": ["1,2"], "c": ["3"]}
    with pytest.raises(DataError, match="cannot separate"):
        read("a,b\n1,2\n", separator="::")


@pytest.mark.parametrize(
    ("text", "headed"),
    [
        ("age,city\n31,Lima\n52,Oslo\n", True),
        ("39, State-gov, 77516\n50, Private, 83311\n", False),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", False),
        ("text,label\ngood film,pos\nbad film,neg\n", True),
        ("good film,1\nbad film,0\n", False),
        ("p,x,s\ne,x,s\np,f,y\ne,x,s\n", False),
        ("country,2019,2020\nPeru,1,2\nNorway,3,4\n", True),
        ("0,1,2,3,4\n0.5,0.2,0.1,0.9,0.3\n", True),
        ("1,2\n3,4\n", False),
        ("date,price\n2024-01-01,$5\n2024-01-02,$6\n", True),
        ("2024-01-01,$5\n2024-01-02,$6\n", False),
        ("a,b\n,\n1,x\n", True),
        ("1,2\n", False),
    ],
)
def test_the_header_is_recognised(text: str, headed: bool) -> None:
    table = parse(text.encode(), DataRecipe(), file="a.csv")
    assert (table.columns[0] != "column_1") is headed
    assert ("no-header" in [finding.rule for finding in table.findings]) is not headed


def test_the_header_can_be_said() -> None:
    assert list(read("1,2\n3,4\n", header="yes")) == ["1", "2"]
    assert read("a,b\nc,d\n", header="no") == {"column_1": ["a", "c"], "column_2": ["b", "d"]}


def test_blanks_around_cells_stay_and_around_names_go() -> None:
    assert read(" a , b\n 1, x \n") == {"a": [" 1"], "b": [" x "]}


def test_lines_are_right_after_quoted_newlines_and_an_early_blank_line() -> None:
    table = parse(b'\n"a\nname",b\n"1\n1",2\n3,4\n', DataRecipe(), file="a.csv")
    assert [table.where(row)[1] for row in range(2)] == [4, 6]


def test_what_is_recognised_is_stated() -> None:
    table = parse("a;b\n1;ü\n".encode("utf-16"), DataRecipe(), file="a.csv")
    assert table.notes == ('separator ";", encoding UTF-16-LE',)
    table = parse(b"word\na\nb\n", DataRecipe(), file="a.csv")
    assert table.notes == ("one column, encoding UTF-8",)


def test_gzip_is_recognised_whatever_the_name(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "b.csv"):
        (tmp_path / name).write_bytes(gzip.compress(b"a,b\n1,2\n"))
        table = read_source(str(tmp_path / name), DataRecipe())
        assert table.data.to_pydict() == {"a": ["1"], "b": ["2"]}
        assert table.name == name
        assert table.root == tmp_path


def test_quotes_that_are_characters_in_a_tab_separated_file() -> None:
    text = 'text\tlabel\n"oh\tpos\nplain\tneg\nno"\tneg\n'
    table = parse(text.encode(), DataRecipe(), file="a.tsv")
    assert table.data.to_pydict() == {"text": ['"oh', "plain", 'no"'], "label": ["pos", "neg", "neg"]}
    assert [finding.rule for finding in table.findings] == ["quotes-are-characters"]
    quoted = parse(b'text\tlabel\n"a\tb"\tpos\n"c\nd"\tneg\n', DataRecipe(), file="a.tsv")
    assert quoted.data.to_pydict() == {"text": ["a\tb", "c\nd"], "label": ["pos", "neg"]}
    assert not quoted.findings


def test_the_limit_of_the_standard_library_is_given_back() -> None:
    before = reference.field_size_limit()
    read("a,b\n1,2\n")
    with pytest.raises(DataError):
        read("a,b\n1\n")
    assert reference.field_size_limit() == before
