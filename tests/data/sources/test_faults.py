"""Every fault that a source can have, and what is said about it; ids are those of the catalogue of faults."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sounding.data.sources import read_source
from sounding.errors import DataError
from sounding.recipe import DataRecipe


@dataclass
class Fault:
    id: str
    make: bytes | Callable[[Path], Path]
    """The bytes of `data.csv`, or what makes the source in a folder."""
    says: list[str] = field(default_factory=list)
    """What the error says; no error is expected without."""
    line: int | None = None
    column: str | None = None
    finds: str = ""
    """The rule of the finding."""
    cells: dict[str, list[Any]] | None = None
    """The table that is read all the same."""
    settings: dict[str, Any] = field(default_factory=dict)


def named(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return make


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.csv")
    return folder / "pipe.csv"


def loop(folder: Path) -> Path:
    (folder / "a.csv").symlink_to("b.csv")
    (folder / "b.csv").symlink_to("a.csv")
    return folder / "a.csv"


def truncated_gzip(folder: Path) -> Path:
    data = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919) for i in range(1000)))
    return named("a.csv.gz", data[: len(data) // 2])(folder)


def damaged_gzip(folder: Path) -> Path:
    data = bytearray(gzip.compress(b"a,b\n1,2\n"))
    data[-6] ^= 0xFF  # in the checksum
    return named("a.csv.gz", bytes(data))(folder)


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def parquet(table: pa.Table, name: str = "a.parquet") -> Callable[[Path], Path]:
    return named(name, parquet_bytes(table))


def parts(*tables: pa.Table) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for number, table in enumerate(tables):
            pq.write_table(table, folder / f"part-{number}.parquet")
        return folder

    return make


def boasting_parquet(every: bool) -> Callable[[Path], Path]:
    """Ten rows whose footer claims 2^40: in one place, or in all."""

    def make(folder: Path) -> Path:
        data = parquet_bytes(pa.table({"a": pa.array([1] * 10, pa.int8())}))
        size = int.from_bytes(data[-8:-4], "little")
        body, footer = data[: -8 - size], data[-8 - size : -8]
        claim, number = bytearray(), 2**41  # zigzag, then seven bits a byte: how Thrift writes 2^40
        while number >= 0x80:
            claim.append(number & 0x7F | 0x80)
            number >>= 7
        claim.append(number)
        assert footer.count(b"\x16\x14") >= 2
        footer = footer.replace(b"\x16\x14", b"\x16" + bytes(claim), -1 if every else 1)
        return named("a.parquet", body + footer + len(footer).to_bytes(4, "little") + b"PAR1")(folder)

    return make


def pickle_carrying(folder: Path) -> Path:
    payload = f"cos\nsystem\n(S'touch {folder}/canary'\ntR.".encode()
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": payload}
    return parquet(pa.table([[1]], schema=pa.schema([pa.field("a", pa.int64(), metadata=metadata)])))(folder)


NAMES = ["😀", "שלום", "n" * 10_240, "two\nlines", 'a "quoted" name', "label", "index", "split", "__row__"]

FAULTS = [
    Fault("RD-01", b"", ["the file is empty"]),
    Fault("RD-01-gz", named("a.csv.gz", gzip.compress(b"")), ["the file is empty"]),
    Fault("RD-01-blanks", b"\n \n\n", ["the file is empty"]),
    Fault("RD-01-mark", b"\xef\xbb\xbf", ["the file is empty"]),
    Fault("RD-01-quotes", b'""\n', ["no cell with a value"]),
    Fault("RD-02", b"age,city\n", ["header but 0 data rows"]),
    Fault("RD-02-no-newline", b"age,city", ["header but 0 data rows"]),
    Fault(
        "RD-07",
        b"a,b\n" + b"1,x\n" * 898 + b"1,M\xfcller\n" + b"1,y\n" * 10,
        ["byte 0xFC at byte offset 3599 is not UTF-8", "--encoding cp1252"],
        line=900,
    ),
    Fault(
        "RD-07-given",
        b"a,b\n1,M\xfcller\n",
        cells={"a": ["1"], "b": ["Müller"]},
        settings={"encoding": "cp1252"},
    ),
    Fault("RD-07-unknown", b"a,b\n1,2\n", ['no encoding "cp1225"', '"cp1252"'], settings={"encoding": "cp1225"}),
    Fault("RD-07-utf16", "a,b\n1,ü\n".encode("utf-16"), cells={"a": ["1"], "b": ["ü"]}),
    Fault("RD-07-utf16-be", b"\xfe\xff" + "a,b\n1,ü\n".encode("utf-16-be"), cells={"a": ["1"], "b": ["ü"]}),
    Fault("RD-07-utf16-cut", "a,b\n1,ü\n".encode("utf-16")[:-1], ["is not UTF-16-LE"]),
    Fault("RD-07-utf16-unmarked", "a,b\n1,x\n".encode("utf-16-le"), ["UTF-16", "--encoding utf-16-le"]),
    Fault("RD-07-utf8-mark", b"\xef\xbb\xbfa,b\n1,2\n", cells={"a": ["1"], "b": ["2"]}),
    Fault("RD-07-surrogate", b"a,b\n1,\xed\xa0\x80\n", ["byte 0xED at byte offset 6"], line=2),
    Fault("RD-07-cut", b"a,b\n1,\xc3", ["byte 0xC3 at byte offset 6"], line=2),
    Fault("RD-09", b"a,b\n5,6\n1\x00,2\n", ["NUL"], line=3, column="a"),
    Fault("RD-09-second", b'a,b\n"x,y\n",6\n1,2\x00\n', ["NUL"], line=4, column="b"),
    Fault("RD-09-in-lines", b'a,b\n"x\ny","p\nq\0"\n1,2\n', ["NUL"], line=4, column="b"),
    Fault("RD-13", b"a,b\n1,2,3\n4,5,6\n", ["3 cells", "2 names", "so has every row"], line=2),
    Fault("RD-13-one-row", b"a,b\n1,2,3\n", ["3 cells", "2 names"], line=2),
    Fault("RD-13-some", b"a,b\n1,2\n3,4,5\n6,7\n8,9,0\n", ["2 rows have too many"], line=3),
    Fault(
        "RD-15",
        b"a,b,c\n1,2\n3,4\n",
        ["only 2 cells", "3 names", "2 rows have too few", "short_rows=fill"],
        line=2,
    ),
    Fault("RD-15-some", b"a,b,c\n1,2,3\n\n4,5\n", ["only 2 cells", "3 names"], line=4),
    Fault("RD-15-one-cell", b"a,b\n1\n2\n3\n", ["only 1 cell,", "2 names", "3 rows have too few"], line=2),
    Fault(
        "RD-15-fill",
        b"a,b,c\n1,2,3\n4,5\n",
        finds="short-rows",
        cells={"a": ["1", "4"], "b": ["2", "5"], "c": ["3", None]},
        settings={"short_rows": "fill"},
    ),
    Fault("RD-16", b'a,b\n5,6\n"x,1\n', ["never closed"], line=3, column="a"),
    Fault("RD-16-only", b'"x,1', ["never closed"], line=1),
    Fault("RD-16-last-cell", b'a,b\n5,6\n7,"x\n8,9\n', ["never closed"], line=3, column="b"),
    Fault("RD-16-even", b'a,b\n5" pipe,6\n7,"x\n8,9\n', ["never closed"], line=3, column="b"),
    Fault("RD-16-later-line", b'a,b\n"two\nlines","x\n8,9\n', ["never closed"], line=3, column="b"),
    Fault(
        "RD-16-long",
        b'a,b\n1,2\n3,"' + b"x" * 2**20,
        ["never closed"],
        line=3,
        settings={"max_cell_megabytes": 0.5},
    ),
    Fault("RD-17", b"a,a,b\n1,2,3\n", ['columns 1 and 2 are both named "a"'], line=1),
    Fault(
        "RD-17-two",
        b"a,b,a,b\n1,2,3,4\n",
        ['columns 1 and 3 are both named "a"', 'columns 2 and 4 are both named "b"'],
    ),
    Fault("RD-19", b",a\n0,1\n1,7\n", finds="unnamed-column", cells={"a": ["1", "7"]}),
    Fault("RD-19-pandas", b"Unnamed: 0,a\n5,1\n9,7\n", finds="unnamed-column", cells={"a": ["1", "7"]}),
    Fault(
        "RD-19-keep",
        b",a\n0,1\n1,7\n",
        cells={"column_1": ["0", "1"], "a": ["1", "7"]},
        settings={"keep": ["column_1"]},
    ),
    Fault(
        "RD-20",
        b"label,index,split,__row__,target\n1,2,3,4,5\n",
        cells={"label": ["1"], "index": ["2"], "split": ["3"], "__row__": ["4"], "target": ["5"]},
    ),
    Fault(
        "RD-21",
        (
            ",".join('"{}"'.format(name.replace('"', '""')) for name in NAMES) + "\n" + ",".join("123456789") + "\n"
        ).encode(),
        cells={name: [value] for name, value in zip(NAMES, "123456789", strict=True)},
    ),
    Fault(
        "RD-23",
        b"a,b\n1,2\n\n3,4\n  \n5,6\n",
        finds="blank-lines",
        cells={"a": ["1", "3", "5"], "b": ["2", "4", "6"]},
    ),
    Fault("RD-23-garbage", b"a,b\n1,2\n3,4\nEND OF FILE\n", ["only 1 cell,"], line=4),
    Fault("RD-23-footer", b"name,n,m\nx,1,100\ny,2,200\nTotal,,300\n", finds="footer-row"),
    Fault("RD-23-footer-word", b"a,b\n1,2\n3,4\n5,6\nsum,12\n", finds="footer-row"),
    Fault("RD-33", b"a,b\n1,2\n", ["changed while it was being read"]),
    Fault("RD-34-pipe", fifo, ["not a regular file"]),
    Fault("RD-34-device", lambda folder: Path("/dev/zero"), ["not a regular file"]),
    Fault("RD-34-loop", loop, ["not a regular file", "circle"]),
    Fault("RD-35", truncated_gzip, ["archive ends early"]),
    Fault("RD-35-damaged", damaged_gzip, ["archive is damaged"]),
    Fault(
        "RD-36-xlsx",
        b"PK\x03\x04[Content_Types].xml",
        ["content is a zip archive, as Excel workbooks are, not CSV"],
    ),
    Fault("RD-36-parquet", parquet(pa.table({"a": [1]}), "a.csv"), ["content is Parquet, not CSV"]),
    Fault("RD-36-html", b"\n <!DOCTYPE html><html><body>404", ["content is an HTML page, not CSV"]),
    Fault("RD-36-csv-as-parquet", named("a.parquet", b"a,b\n1,2\n"), ["not Parquet"]),
    Fault("RD-36-csv-as-arrow", named("a.arrow", b"a,b\n1,2\n"), ["damaged"]),
    Fault(
        "RD-36-parquet-as-jsonl",
        parquet(pa.table({"a": [1]}), "a.jsonl"),
        ["content is Parquet, not JSON Lines"],
    ),
    Fault("RD-36-text-like-parquet", b"PAR1,PAR2\n1,2\n", cells={"PAR1": ["1"], "PAR2": ["2"]}),
    Fault(
        "RD-38",
        b",".join(b"c%d" % i for i in range(100_000)) + b"\n" + b",".join([b"1"] * 100_000),
        ["100,000 columns", "limit of 20,000"],
    ),
    Fault(
        "RD-39",
        b"a,b\n1,2\n3," + b"x" * 2**20 + b"\n",
        ["limit of 0.5 MB"],
        line=3,
        column="b",
        settings={"max_cell_megabytes": 0.5},
    ),
    Fault(
        "RD-39-quoted",
        b'a,b\n1,"2\n2"\n"' + b"x\n" * 2**20 + b'",3\n',
        ["limit of 0.5 MB"],
        line=4,
        column="a",
        settings={"max_cell_megabytes": 0.5},
    ),
    Fault(
        "RD-39-beyond-block",
        b"a,b\n1,2\n3," + b"x" * 2**23 + b"\n",
        ["limit of 1 MB"],
        line=3,
        column="b",
        settings={"max_cell_megabytes": 1.0},
    ),
    Fault(
        "RD-39-within",
        b"a,b\n1,2\n3," + b"x" * 2**23 + b"\n",
        cells={"a": ["1", "3"], "b": ["2", "x" * 2**23]},
    ),
    Fault("RD-41", named("a.jsonl", b'{"a": 1}\n{"a": 2\n{"a": 3}\n'), ["not JSON", "byte offset 16"], line=2),
    Fault("RD-41-no-object", named("a.jsonl", b'{"a": 1}\n[1]\n'), ["not an object"], line=2),
    Fault("RD-41-array", named("a.json", b'[{"a": 1}]\n'), ["one JSON array"]),
    Fault("RD-41-twice", named("a.jsonl", b'{"a": 1, "a": 2}\n'), ['the key "a" occurs twice'], line=1),
    Fault("RD-41-deep", named("a.jsonl", b'{"a": ' + b"[" * 100_000 + b"\n"), ["cannot be read"], line=1),
    Fault(
        "RD-42",
        named("a.jsonl", b'{"a": 1}\n{"b": "x"}\n{"a": 2, "b": null}\n'),
        finds="absent-keys",
        cells={"a": [1, None, 2], "b": [None, "x", None]},
    ),
    Fault("PQ-03-list", parquet(pa.table({"a": [["x", "y"]], "b": [1]})), ["list<", "not understood"], column="a"),
    Fault("PQ-03-struct", parquet(pa.table({"a": [{"x": 1}]})), ["struct<"], column="a"),
    Fault(
        "PQ-03-map",
        parquet(pa.table({"a": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))})),
        ["map<"],
        column="a",
    ),
    Fault("PQ-03-jsonl", named("a.jsonl", b'{"a": 1}\n{"a": [1]}\n'), ["nested"], line=2, column="a"),
    Fault("PQ-04", pickle_carrying, ["arrow.py_extension_type", "refused"], column="a"),
    Fault(
        "PQ-05",
        parts(pa.table({"a": [1], "b": [1]}), pa.table({"a": [1], "b": ["x"]})),
        ["part-1.parquet", "part-0.parquet", "string", "int64"],
        column="b",
    ),
    Fault(
        "PQ-05-absent",
        parts(pa.table({"a": [1], "b": [1]}), pa.table({"a": [1]})),
        ["part-1.parquet", "absent"],
        column="b",
    ),
    Fault("PQ-07", boasting_parquet(every=False), ["1,099,511,627,776 rows"]),
    Fault("PQ-07-everywhere", boasting_parquet(every=True), ["1,099,511,627,776 rows"]),
    Fault(
        "PQ-08-cut",
        lambda folder: named("a.parquet", parquet_bytes(pa.table({"a": [1]}))[:-20])(folder),
        ["damaged"],
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_fault(fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = named("data.csv", fault.make)(tmp_path) if isinstance(fault.make, bytes) else fault.make(tmp_path)
    settings = DataRecipe(**fault.settings)
    if fault.id == "RD-33":
        grow_while_read(source, monkeypatch)
    if fault.says:
        with pytest.raises(DataError) as caught:
            read_source(source, settings)
        said = str(caught.value)
        assert "\n" not in said
        assert source.name in said
        for words in fault.says:
            assert words in said
        if fault.line is not None:
            assert caught.value.line == fault.line
        if fault.column is not None:
            assert caught.value.column == fault.column
        assert not (tmp_path / "canary").exists()
        return
    table = read_source(source, settings)
    if fault.finds:
        assert fault.finds in [finding.rule for finding in table.findings]
    else:
        assert not table.findings
    if fault.cells is not None:
        assert table.data.to_pydict() == fault.cells


def grow_while_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes

    def read_and_grow(path: Path) -> bytes:
        data = read_bytes(path)
        with source.open("ab") as file:
            file.write(b"3,4\n")
        return data

    monkeypatch.setattr(Path, "read_bytes", read_and_grow)


def test_decimals_times_and_codes_keep_their_values(tmp_path: Path) -> None:
    """PQ-06."""
    from datetime import UTC, datetime
    from decimal import Decimal

    written = pa.table(
        {
            "price": pa.array([Decimal("12345678901234567890.12"), None], pa.decimal128(22, 2)),
            "when": pa.array([datetime(2024, 1, 2, 3, tzinfo=UTC)] * 2, pa.timestamp("us", tz="Europe/Paris")),
            "word": pa.array(["x", "y"]).dictionary_encode(),
        }
    )
    table = read_source(parquet(written)(tmp_path), DataRecipe())
    assert table.data.equals(written)


def test_blank_lines_are_counted_where_they_are(tmp_path: Path) -> None:
    source = named("a.csv", b"a,b\n1,2\n\n3,4\n \n5,6\n\n\n")(tmp_path)
    table = read_source(source, DataRecipe())
    (finding,) = table.findings
    assert finding.evidence["lines"] == [3, 5, 7, 8]
    assert [table.where(row)[1] for row in range(3)] == [2, 4, 6]
    after = read_source(named("b.csv", b"a,b\n1,2\n\n\n")(tmp_path), DataRecipe())
    assert after.findings[0].evidence["lines"] == [3, 4]


def test_a_footer_row_is_named_by_its_line(tmp_path: Path) -> None:
    table = read_source(named("a.csv", b"name,n,m\nx,1,100\ny,2,200\nTotal,,300\n")(tmp_path), DataRecipe())
    (finding,) = table.findings
    assert finding.evidence["line"] == 4
    assert len(table) == 3
