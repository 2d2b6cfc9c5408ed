from __future__ import annotations

import gzip
import io
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from sounding.data import stream as streams
from sounding.data.memory import available_memory
from sounding.data.sources import CHUNKED, csv, open_source, read_source
from sounding.data.stream import Stream, sample
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe
from sounding.tasks import arrange
from sounding.tasks.prepare import Prepared, prepare

ROWS = 3000
SETTINGS = DataRecipe(rows_in_memory=1000)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDING_CACHE", str(tmp_path / "cache"))


def columns(rows: int = ROWS) -> pa.Table:
    draw = np.random.default_rng(0)
    x, colour = draw.normal(size=rows).round(3), draw.choice(["red", "green", "blue", "two\nlines"], rows)
    return pa.table(
        {
            "x": pa.array(x, mask=draw.random(rows) < 0.1),
            "colour": colour,
            "place": np.arange(rows) // 10,
            "day": np.arange(rows),
            "w": draw.random(rows) + 0.5,
            "y": np.where(x + (colour == "red") > 0.3, "yes", "no"),
        }
    )


def write_csv(path: Path, data: pa.Table, end: str = "\n") -> None:
    lines = [",".join(data.column_names)]
    for row in data.to_pylist():
        cells = ["" if value is None else str(value) for value in row.values()]
        lines.append(",".join(f'"{cell}"' if "\n" in cell else cell for cell in cells))
    text = end.join(lines) + end
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_arrow(path: Path, data: pa.Table) -> None:
    opened = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, opened(file, data.schema) as writer:
        writer.write_table(data, max_chunksize=170)


def write_parts(path: Path, data: pa.Table) -> None:
    path.mkdir()
    pq.write_table(data.slice(2500), path / "test-0.parquet", row_group_size=150)
    pq.write_table(data.slice(0, 1000), path / "train-0.parquet", row_group_size=150)
    pq.write_table(data.slice(1000, 1500), path / "train-1.parquet", row_group_size=150)


WRITERS: dict[str, Callable[[Path, pa.Table], object]] = {
    "a.csv": write_csv,
    "a.csv.gz": write_csv,
    "plain.csv": lambda path, data: write_csv(path, data.drop_columns("colour")),
    "crlf.csv": lambda path, data: write_csv(path, data, "\r\n"),
    "a.parquet": lambda path, data: pq.write_table(data, path, row_group_size=400),
    "parts": write_parts,
    "a.arrow": write_arrow,
    "a.arrows": write_arrow,
}


def joined(chunks: Iterator[Table]) -> tuple[pa.Table, list[tuple[str | None, int | None]], set[str]]:
    """All rows of chunks, where each is from, and the parts that are named."""
    tables = list(chunks)
    where = [table.where(row) for table in tables for row in range(len(table))]
    return pa.concat_tables([table.data for table in tables]), where, {part for table in tables for part in table.parts}


@pytest.mark.parametrize("name", WRITERS)
def test_chunks_are_the_rows_of_the_table(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, columns())
    (one,) = (one for one in CHUNKED if one.claims(path))
    blocks = {"block": 5000} if "csv" in name else {}
    whole = read_source(path, SETTINGS)
    data, where, parts = joined(one.chunks(path, SETTINGS, 77, **blocks))
    assert data.equals(whole.data)
    assert where == [whole.where(row) for row in range(len(whole))]
    assert parts == set(whole.parts)
    assert all(len(chunk) <= 77 for chunk in one.chunks(path, SETTINGS, 77, **blocks))


@pytest.mark.parametrize("name", WRITERS)
def test_the_extent_is_about_right(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, columns())
    (one,) = (one for one in CHUNKED if one.claims(path))
    rows, row_bytes = one.extent(path, SETTINGS)
    held = read_source(path, SETTINGS).data
    assert ROWS / 3 < rows < ROWS * 3
    assert 1 / 3 < row_bytes * len(held) / held.nbytes < 3


def test_an_error_in_a_later_block_names_its_line(tmp_path: Path) -> None:
    text = "a,b\n" + "1,2\n" * 500 + "1,2,3\n" + "1,2\n" * 500
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=r"a\.csv:502.*3 cells, but the header has 2"):
        list(csv.chunks(tmp_path / "a.csv", SETTINGS, 100, block=100))


def test_a_quote_that_is_never_closed_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 50 + '1,"2\n' + "1,2\n" * 500)
    with pytest.raises(DataError, match=r"a\.csv:52"):
        list(csv.chunks(tmp_path / "a.csv", SETTINGS, 100, block=100))


def test_what_is_odd_in_many_blocks_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,y\n" + "1,u\n\n2,v\n" * 3000)
    stream = Stream(lambda rows: csv.chunks(tmp_path / "a.csv", SETTINGS, rows, block=5000), 6000, 4, 24)
    (finding,) = sample(stream, SETTINGS, ["y"], 0).table.findings
    assert finding.rule == "blank-lines"
    assert re.search(r"and so in 5 more parts of the source", finding.title)


# What is streamed


def opened(path: object, chunk: int = 128, settings: DataRecipe = SETTINGS) -> Stream:
    stream = open_source(path, settings)
    assert isinstance(stream, Stream)
    read = stream.read
    return Stream(lambda rows: read(min(rows, chunk)), stream.rows, stream.row_bytes, stream.working_bytes)


@pytest.mark.parametrize(("memory", "kind"), [(10_000, Stream), (100_000_000, Table)])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.arrow"])
def test_the_memory_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, memory: int, kind: type
) -> None:
    WRITERS[name](tmp_path / name, columns())
    monkeypatch.setattr(streams, "available_memory", lambda: memory)
    assert isinstance(open_source(tmp_path / name, DataRecipe()), kind)
    assert isinstance(open_source(tmp_path / name, DataRecipe(rows_in_memory=100)), Stream)
    assert isinstance(open_source(tmp_path / name, DataRecipe(rows_in_memory=100_000)), Table)


def test_the_limit_of_the_address_space_counts() -> None:
    program = (
        "import resource; from sounding.data.memory import available_memory; free = available_memory();"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**26, -1));"
        "assert 2**25 < available_memory() <= 2**26 < free"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert available_memory() > 2**26


def test_pictures_count_as_they_are_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "pictures", 40, side=32)
    monkeypatch.setattr(streams, "available_memory", lambda: 40 * 32 * 32)
    stream = open_source(folder, DataRecipe())
    assert isinstance(stream, Stream)
    assert stream.row_bytes == 3 * 32 * 32


def test_pictures_in_a_file_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Pillow.new("RGB", (32, 32), "red").save(file, "PNG")
    pq.write_table(pa.table({"picture": [file.getvalue()] * 40}), tmp_path / "a.parquet")
    monkeypatch.setattr(streams, "available_memory", lambda: 10_000_000)
    assert isinstance(open_source(tmp_path / "a.parquet", DataRecipe()), Table)
    monkeypatch.setattr(streams, "available_memory", lambda: 700_000)
    stream = open_source(tmp_path / "a.parquet", DataRecipe())
    assert isinstance(stream, Stream)
    monkeypatch.setattr("sounding.data.sources.parquet.read", lambda *_: pytest.fail("read as a whole"))
    assert sum(len(chunk) for chunk in stream.chunks()) == 40


def pictures(folder: Path, count: int, side: int = 8) -> Path:
    draw = np.random.default_rng(0)
    for at in range(count):
        path = folder / ("cat" if at % 2 else "dog") / f"{at:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return folder


# The sample


@pytest.mark.parametrize("name", WRITERS)
def test_the_sample_holds_rows_of_the_source_and_knows_which(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, columns())
    whole = read_source(path, SETTINGS)
    drawn = sample(opened(path), SETTINGS, ["y"], 0)
    share = drawn.limit / opened(path).rows
    assert abs(len(drawn.table) - share * ROWS) < 5 * math.sqrt(ROWS * share)
    assert drawn.rows == ROWS
    assert drawn.table.data.equals(whole.data.take(drawn.places).combine_chunks())
    assert [drawn.table.where(row) for row in range(len(drawn.table))] == [whole.where(int(at)) for at in drawn.places]
    for part, rows in whole.parts.items():
        found = drawn.places[drawn.table.parts[part].start : drawn.table.parts[part].stop]
        assert np.array_equal(found, drawn.places[np.isin(drawn.places, np.array(rows))])


def test_the_sample_is_a_function_of_the_seed_and_not_of_the_chunks(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", columns())
    drawn = sample(opened(tmp_path / "a.csv"), SETTINGS, ["y"], 0)
    assert np.array_equal(drawn.places, sample(opened(tmp_path / "a.csv", chunk=999), SETTINGS, ["y"], 0).places)
    assert not np.array_equal(drawn.places, sample(opened(tmp_path / "a.csv"), SETTINGS, ["y"], 1).places)


def test_a_change_in_a_row_that_was_not_drawn_is_another_fingerprint(tmp_path: Path) -> None:
    data = columns()
    pq.write_table(data, tmp_path / "a.parquet")
    first = sample(opened(tmp_path / "a.parquet"), SETTINGS, ["y"], 0)
    assert first.table.fingerprint() == sample(opened(tmp_path / "a.parquet"), SETTINGS, ["y"], 0).table.fingerprint()
    other = next(row for row in range(ROWS) if row not in set(first.places.tolist()))
    weights = np.array(data["w"]).copy()
    weights[other] += 1
    pq.write_table(data.set_column(4, "w", pa.array(weights)), tmp_path / "a.parquet")
    again = sample(opened(tmp_path / "a.parquet"), SETTINGS, ["y"], 0)
    assert np.array_equal(first.places, again.places)
    assert first.table.fingerprint() != again.table.fingerprint()


# Training rows


def prepared(source: object, **settings: Any) -> Prepared:
    given = {"target": ["y"], "data.rows_in_memory": 1000, "data.keep": ["day", "place"]}
    return prepare(source, {**given, **{key.replace("__", "."): value for key, value in settings.items()}})


def held_places(run: Prepared, source: Path) -> np.ndarray:
    """The rows of the source that validate and test, found by the column that numbers the rows."""
    held = np.sort(np.concatenate([run.split.validation, run.split.test]))
    return np.array(run.table.data["day"].take(pa.array(held)).to_pylist()).astype(np.int64)


def stored(run: Prepared) -> dict[str, np.ndarray]:
    return {name: array.read([(0, len(array))]).numpy() for name, array in run.stored.items()}


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.arrow"])
def test_stored_rows_are_those_that_are_encoded_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(streams, "MOST_CHUNK_ROWS", 128)
    WRITERS[name](tmp_path / name, columns())
    run = prepared(tmp_path / name, data__weight="w")
    whole = read_source(tmp_path / name, run.recipe.data)
    rest = np.setdiff1d(np.arange(ROWS), held_places(run, tmp_path / name))
    found = stored(run)
    for at, tensor in enumerate(arrange(run.schema.encode(whole).blocks)):
        assert np.array_equal(found[f"input {at}"], tensor.numpy()[rest])
    truth = run.task.encode_target(whole, run.schema.encode(whole))
    assert np.array_equal(found["target"], run.task.to_tensor(truth).numpy()[rest])
    weight, own = run.schema.encode_weight(whole), run.schema.encode_weight(run.table)
    assert np.allclose(found["weight"], weight[rest] / own[run.split.train].mean())
    assert run.training_rows == len(rest)


def test_training_takes_all_stored_rows_and_the_others_are_in_memory(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", columns())
    run = prepared(tmp_path / "a.csv")
    batches = run.batches(run.split.train, training=True)
    assert sum(len(batch.rows) for batch in batches.epoch(0)) == run.training_rows == batches.rows
    assert run.batches(run.split.test).rows == len(run.split.test) < 150
    assert {finding.rule: finding for finding in run.findings}["sampled"].evidence == {
        "rows": len(run.table),
        "of": ROWS,
        "trained": run.training_rows,
    }


def test_a_repeat_draws_the_same_rows_and_encodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "a.csv", columns())
    monkeypatch.setattr(streams, "FEWEST_SAMPLED", 500)
    monkeypatch.setattr(streams, "available_memory", lambda: 1000)
    run = prepared(tmp_path / "a.csv", data__rows_in_memory=0)
    assert run.recipe.data.rows_in_memory == 500
    monkeypatch.setattr(streams, "available_memory", lambda: 10**12)
    again = prepare(tmp_path / "a.csv", run.recipe.settings())
    assert again.table.data.equals(run.table.data)
    assert again.stored["target"].path == run.stored["target"].path


def test_no_row_of_a_group_that_is_held_out_is_trained_on(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", columns())
    run = prepared(tmp_path / "a.csv", data__group="place")
    held = set((held_places(run, tmp_path) // 10).tolist())
    assert run.training_rows == ROWS - 10 * len(held)
    unused = {finding.rule: finding for finding in run.findings}["rows-unused"]
    assert unused.evidence["rows"] == ROWS - run.training_rows - len(held_places(run, tmp_path))


def test_no_row_later_than_the_first_that_is_held_out_is_trained_on(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", columns())
    run = prepared(tmp_path / "a.csv", data__time="day")
    assert run.training_rows == held_places(run, tmp_path).min()


def test_rows_of_the_test_part_are_not_trained_on(tmp_path: Path) -> None:
    write_parts(tmp_path / "parts", columns())
    run = prepared(tmp_path / "parts")
    assert run.training_rows == 2500 - len(run.split.validation)
    assert held_places(run, tmp_path)[-len(run.split.test) :].min() >= 2500


def test_labels_that_the_drawn_rows_lack_are_left_out_with_a_finding(tmp_path: Path) -> None:
    data = columns()
    pq.write_table(data, tmp_path / "a.parquet")
    places = sample(opened(tmp_path / "a.parquet"), SETTINGS, ["y"], 0).places
    labels = np.array(data["y"].to_pylist(), dtype=object)
    labels[np.setdiff1d(np.arange(ROWS), places)[:3]] = "perhaps"
    pq.write_table(data.set_column(5, "y", pa.array(labels)), tmp_path / "a.parquet")
    run = prepared(tmp_path / "a.parquet")
    assert run.training_rows == ROWS - len(held_places(run, tmp_path)) - 3
    assert {finding.rule: finding for finding in run.findings}["rows-unused"].evidence["rows"] == 3


def test_a_row_without_target_far_down_is_named(tmp_path: Path) -> None:
    lines = ["x,y"] + [f"{row},{'ab'[row % 2]}" for row in range(3000)]
    lines[2900] = "7,"
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.csv:2901"):
        prepared(tmp_path / "a.csv", data__keep=[], data__rows_in_memory=100)
    run = prepared(tmp_path / "a.csv", data__keep=["x"], data__rows_in_memory=100, data__missing_target="drop")
    assert run.training_rows + len(run.split.validation) + len(run.split.test) == 2999
    assert "rows-without-target" in {finding.rule for finding in run.findings}


def test_a_counter_is_an_identifier_although_the_sample_has_gaps(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", columns())
    run = prepared(tmp_path / "a.csv", data__keep=["place"])
    assert run.schema["day"].role == "ignored"


def test_pictures_are_encoded_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHUNK_BYTES", 7 * 3 * 64)
    folder = pictures(tmp_path / "pictures", 200)
    run = prepare(folder, {"data.rows_in_memory": 80})
    whole = read_source(folder, DataRecipe())
    held = np.concatenate([run.split.validation, run.split.test])
    paths = set(run.table.data["image"].take(pa.array(held)).to_pylist())
    rest = np.array([row for row, path in enumerate(whole.data["image"].to_pylist()) if path not in paths])
    assert np.array_equal(stored(run)["input 0"], run.schema.encode(whole).blocks["image:image"][rest])
    assert len(rest) == run.training_rows


def test_a_picture_that_has_changed_is_encoded_again(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", 100)
    run = prepare(folder, {"data.rows_in_memory": 50})
    drawn = set(run.table.data["image"].to_pylist())
    path = next(path for path in sorted(folder.rglob("*.png")) if path.relative_to(folder).as_posix() not in drawn)
    Pillow.new("RGB", (8, 8), "white").save(path)
    before, after = stored(run)["input 0"], stored(prepare(folder, {"data.rows_in_memory": 50}))["input 0"]
    assert (before != after).any(axis=(1, 2, 3)).sum() == 1


@pytest.mark.slow
def test_a_table_larger_than_the_memory_is_trained_on(tmp_path: Path) -> None:
    """Cells of 470 MB that are 220 MB when encoded, and 640 MB that may be taken beside the libraries."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(100_000, 12))
    part = pa.table({**{f"x{at}": x[:, at] for at in range(12)}, "y": np.where(x[:, 0] > 0, "yes", "no")})
    with pq.ParquetWriter(tmp_path / "a.parquet", part.schema) as writer:
        for _ in range(45):
            writer.write_table(part)
    program = f"""
import resource
import torch
from sounding.tasks.prepare import prepare
torch.set_num_threads(1)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 640 * 2**20, -1))
run = prepare({str(tmp_path / "a.parquet")!r}, {{"target": ["y"]}})
network = run.network()
optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
batches = run.batches(run.split.train, training=True)
rows = 0
for batch in batches.epoch(0):
    rows += len(batch.rows)
    if rows < 10_000:
        run.task.loss(network(*batch.inputs), batch.target).backward()
        optimizer.step()
assert rows == run.training_rows > 4_300_000, rows
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
