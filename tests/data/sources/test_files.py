from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from sounding.data.sources import SOURCES, read_source
from sounding.errors import DataError
from sounding.recipe import DataRecipe

WRITTEN = pa.table({"n": [1, None], "x": [0.5, 2.0], "word": ["a", "b"], "raw": [b"\x89PNG", b""]})


def stream(path: Path, *, file: bool) -> None:
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(str(path), WRITTEN.schema) as writer:
        writer.write_table(WRITTEN)


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.gz", "a.feather", "a.arrow", "a.arrow.gz", "a.arrows"])
def test_typed_files_keep_their_types(tmp_path: Path, name: str) -> None:
    path = tmp_path / name.removesuffix(".gz")
    if "parquet" in name:
        pq.write_table(WRITTEN, path)
    elif "feather" in name:
        feather.write_feather(WRITTEN, path, compression="uncompressed")
    else:
        stream(path, file=path.suffix == ".arrow")
    if name.endswith(".gz"):
        path.with_name(name).write_bytes(gzip.compress(path.read_bytes()))
        path = path.with_name(name)
    table = read_source(path, DataRecipe())
    assert table.data.equals(WRITTEN)
    assert table.root == tmp_path
    assert table.where(1) == (str(path), None)


def test_pictures_in_parquet(tmp_path: Path) -> None:
    written = pa.table({"image": [{"bytes": b"\x89PNG", "path": "a.png"}], "label": ["x"]})
    pq.write_table(written, tmp_path / "a.parquet")
    assert read_source(tmp_path / "a.parquet", DataRecipe()).data.equals(written)


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    for number in (1, 0):
        pq.write_table(pa.table({"a": [number]}), tmp_path / f"part-{number}.parquet")
    (tmp_path / "_SUCCESS").touch()
    table = read_source(tmp_path, DataRecipe())
    assert table.data["a"].to_pylist() == [0, 1]
    assert table.where(1) == (str(tmp_path / "part-1.parquet"), None)
    assert not table.parts


def test_parquet_files_named_after_parts_are_the_split(tmp_path: Path) -> None:
    for name, value in [("test-00000-of-00001", 2), ("train-00000-of-00002", 0), ("train-00001-of-00002", 1)]:
        pq.write_table(pa.table({"a": [value, value]}), tmp_path / f"{name}.parquet")
    table = read_source(tmp_path, DataRecipe())
    assert dict(table.parts) == {"train": range(0, 4), "test": range(4, 6)}
    assert table.data["a"].to_pylist() == [0, 0, 1, 1, 2, 2]


def test_the_index_that_pandas_writes_is_left_out_and_said(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "__index_level_0__": [7]}), tmp_path / "a.parquet")
    table = read_source(tmp_path / "a.parquet", DataRecipe())
    assert table.columns == ["a"]
    assert [finding.rule for finding in table.findings] == ["unnamed-column"]


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"n": 1, "x": 1, "ok": true, "day": "2024-01-02"}\n\n{"n": 9007199254740993, "x": 2.5, "ok": null}\n'
    )
    table = read_source(path, DataRecipe())
    assert table.data.to_pydict() == {
        "n": [1, 9007199254740993],
        "x": [1.0, 2.5],
        "ok": [True, None],
        "day": ["2024-01-02", None],
    }
    assert table.where(1) == (str(path), 3)
    assert {finding.rule for finding in table.findings} == {"blank-lines", "absent-keys"}


def test_json_columns_of_mixed_types_become_text_and_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": "x"}\n{"a": 2.5}\n{"a": true}\n')
    table = read_source(path, DataRecipe())
    assert table.data["a"].to_pylist() == ["1", "x", "2.5", "true"]
    (finding,) = table.findings
    assert finding.evidence["counts"] == {"number": 2, "text": 1, "true or false": 1}
    assert [example["line"] for example in finding.evidence["examples"]] == [1, 2, 4]


def test_whole_numbers_that_no_type_holds_become_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 123456789012345678901234567890, "b": 9007199254740993}\n{"a": 1, "b": 0.5}\n')
    table = read_source(path, DataRecipe())
    assert table.data["a"].to_pylist() == ["123456789012345678901234567890", "1"]
    assert table.data["b"].to_pylist() == ["9007199254740993", "0.5"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "trian.csv",
            'no such file; did you mean "train.csv"? There are: b.xyz, folder, test.csv, train.csv',
        ),
        ("nowhere/a.csv", "there is no folder"),
        ("b.xyz", "this kind of file is not understood; give one of these: a name of the catalogue"),
        ("folder", "this folder holds nothing that is understood"),
        ("a\0b", "not a file name"),
    ],
)
def test_paths_that_lead_nowhere(tmp_path: Path, name: str, says: str) -> None:
    for known in ("train.csv", "test.csv", "b.xyz"):
        (tmp_path / known).write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError) as caught:
        read_source(str(tmp_path / name), DataRecipe())
    assert says in str(caught.value)


@pytest.mark.parametrize("source", ["https://example.org/a.csv", "s3://bucket/a.csv", "", "-"])
def test_streams_and_addresses_are_no_sources(source: str) -> None:
    with pytest.raises(DataError):
        read_source(source, DataRecipe())


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="leads to a file that does not exist"):
        read_source(tmp_path / "a.csv", DataRecipe())


def test_every_source_says_what_it_understands() -> None:
    assert all(source.UNDERSTANDS for source in SOURCES)
