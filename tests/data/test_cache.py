from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from sounding.data import cache
from sounding.data.cache import encode_cached
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.recipe import DataRecipe


def make(seed: int = 0, rows: int = 30) -> tuple[Schema, Table]:
    numbers = np.random.default_rng(seed).normal(size=rows)
    said = [f"number {n} was said to be {n % 3} or so" for n in range(rows)]
    table = Table(pa.table({"x": numbers, "said": said, "y": ["a", "b"] * (rows // 2)}), "x.csv")
    return Schema.infer(table, DataRecipe(), ["y"]).fit(table, np.arange(rows), DataRecipe())[0], table


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WORTH_SECONDS", -1.0)


def places(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def same(left, right) -> bool:
    return (
        list(left.blocks) == list(right.blocks)
        and all(
            np.array_equal(left.blocks[name], right.blocks[name])
            and left.blocks[name].dtype == right.blocks[name].dtype
            for name in left.blocks
        )
        and left.findings == right.findings
    )


def test_gives_what_encoding_gives_and_reads_it_memory_mapped(tmp_path, monkeypatch):
    schema, table = make()
    expected = schema.encode(table)
    assert same(encode_cached(schema, table, tmp_path), expected)
    monkeypatch.setattr(Schema, "encode", lambda *_: pytest.fail("encoded again"))
    again = encode_cached(schema, table, tmp_path)
    assert same(again, expected)
    assert all(isinstance(array, np.memmap) for array in again.blocks.values())
    assert [path.name[0] for path in places(tmp_path)] != ["."]


def test_writing_into_an_array_does_not_reach_the_file(tmp_path):
    schema, table = make()
    first = encode_cached(schema, table, tmp_path)
    first.blocks["numbers"][:] = 7
    assert cache._read(places(tmp_path)[0]) is not None
    assert same(encode_cached(schema, table, tmp_path), schema.encode(table))


def test_other_cells_or_another_schema_have_another_key(tmp_path):
    schema, table = make()
    encode_cached(schema, table, tmp_path)
    _, other_table = make(seed=1)
    other_schema, _ = make(seed=2)
    assert same(encode_cached(schema, other_table, tmp_path), schema.encode(other_table))
    assert same(encode_cached(other_schema, table, tmp_path), other_schema.encode(table))
    assert len(places(tmp_path)) == 3


def test_a_changed_picture_is_read_again(tmp_path):
    root = tmp_path / "data"
    root.mkdir()

    def save(colour: str) -> None:
        Pillow.new("RGB", (4, 4), colour).save(root / "a.png")

    save("red")
    table = Table(pa.table({"image": ["a.png"]}), "x.csv", root=root)
    schema, _ = Schema.infer(table, DataRecipe(), []).fit(table, np.arange(1), DataRecipe())
    first = encode_cached(schema, table, tmp_path / "cache")
    save("blue")
    os.utime(root / "a.png", ns=(1, 1))
    second = encode_cached(schema, table, tmp_path / "cache")
    assert first.blocks["image:image"][0, :, 0, 0].tolist() == [255, 0, 0]
    assert second.blocks["image:image"][0, :, 0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("name", ["0.npy", "1.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_damage_is_noticed_and_mended(tmp_path, name, damage):
    schema, table = make()
    expected = schema.encode(table)
    encode_cached(schema, table, tmp_path)
    [place] = places(tmp_path)
    content = (place / name).read_bytes()
    for position in range(3, len(content), max(1, len(content) // 25)) if damage == "flip" else [0]:
        if damage == "flip":
            (place / name).write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        elif damage == "remove":
            (place / name).unlink()
        else:
            (place / name).write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
        assert cache._read(place) is None
        assert same(encode_cached(schema, table, tmp_path), expected)
        assert cache._read(place) is not None


def test_pickled_arrays_are_never_opened(tmp_path):
    schema, table = make()
    encode_cached(schema, table, tmp_path)
    [place] = places(tmp_path)
    evil = io.BytesIO()
    np.save(evil, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (place / "0.npy").write_bytes(evil.getvalue())
    assert same(encode_cached(schema, table, tmp_path), schema.encode(table))


def test_the_least_recently_used_goes_first(tmp_path, monkeypatch):
    made = [make(seed) for seed in range(3)]
    for age, (schema, table) in enumerate(made[:2]):
        encode_cached(schema, table, tmp_path)
        [newest] = [path for path in places(tmp_path) if path.stat().st_mtime > 1e9]
        os.utime(newest, (age, age))
    oldest = min(places(tmp_path), key=lambda path: path.stat().st_mtime)
    encode_cached(*made[0], tmp_path)  # used again: now the other one is oldest
    assert oldest.stat().st_mtime > 1e9
    size = sum(file.stat().st_size for file in oldest.iterdir())
    monkeypatch.setenv("SOUNDING_CACHE_GIGABYTES", str(size * 2.5 / 1e9))
    encode_cached(*made[2], tmp_path)
    assert len(places(tmp_path)) == 2
    assert oldest in places(tmp_path)


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path):
    for name, age in (("old", 2 * 86_400), ("new", 60)):
        (tmp_path / f".writing-{name}").mkdir()
        os.utime(tmp_path / f".writing-{name}", (time.time() - age,) * 2)
    encode_cached(*make(), tmp_path)
    assert [path.name for path in places(tmp_path) if path.name.startswith(".")] == [".writing-new"]


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    (tmp_path / "file").write_text("in the way")
    schema, table = make()
    assert same(encode_cached(schema, table, tmp_path / "file" / "cache"), schema.encode(table))


def test_quick_encodings_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "WORTH_SECONDS", 60.0)
    encode_cached(*make(), tmp_path / "cache")
    assert places(tmp_path / "cache") == []


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("SOUNDING_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "encoded"
    monkeypatch.delenv("SOUNDING_CACHE")
    assert "sounding" in str(cache.cache_folder())
