from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sounding.batches import Batch
from sounding.data import cache
from sounding.data.cache import store_rows
from sounding.data.stored import StoredArray, StoredBatches
from sounding.errors import DamagedError, UserError
from sounding.randomness import generator

ROWS = 1003
ARRAYS = {
    "numbers": np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32),
    "none": np.empty((ROWS, 0), np.int32),
    "pictures": np.random.default_rng(1).integers(0, 256, (ROWS, 1, 2, 2), dtype=np.uint8),
    "target": np.arange(ROWS) * 7,
    "weight": np.linspace(0, 1, ROWS).astype(np.float32),
}
ROW_BYTES = 12 + 4 + 8 + 4 + 16


def chunks(size: int = 100) -> Iterator[Mapping[str, np.ndarray]]:
    for at in range(0, ROWS, size):
        yield {name: array[at : at + size] for name, array in ARRAYS.items()}


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, StoredArray]:
    return store_rows("some key", chunks, tmp_path)


def make(stored: Mapping[str, StoredArray], **settings: object) -> StoredBatches:
    """By default windows of six batches, and blocks of eight rows."""
    given = {"batch_size": 10, "seed": 4, "shuffle": True, "window_bytes": 60 * ROW_BYTES, "block_bytes": 8 * ROW_BYTES}
    inputs = [stored[name] for name in ("numbers", "none", "pictures")]
    return StoredBatches(inputs, stored["target"], stored["weight"], **{**given, **settings})  # type: ignore[arg-type]


def tensors(batch: Batch) -> list[Tensor]:
    assert batch.target is not None
    assert batch.weight is not None
    return [*batch.inputs, batch.target, batch.weight, batch.rows]


def same(one: Iterator[Batch], other: Iterator[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for left, right in pairs for a, b in zip(tensors(left), tensors(right), strict=True))


def noisy(batch: Batch, epoch: int, step: int) -> Batch:
    noise = torch.from_numpy(generator(0, epoch, step).normal(size=batch.inputs[0].shape)).float()
    return batch._replace(inputs=(batch.inputs[0] + noise + batch.inputs[0].mean(0), *batch.inputs[1:]))


# Arrays in files


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_what_is_written_in_chunks_is_what_numpy_writes(tmp_path: Path, size: int) -> None:
    stored = store_rows("key", lambda: chunks(size), tmp_path)
    for name, expected in ARRAYS.items():
        loaded = np.load(stored[name].path, allow_pickle=False)
        assert loaded.dtype == expected.dtype
        assert np.array_equal(loaded, expected)


def test_stretches_are_read_one_after_the_other(stored: dict[str, StoredArray]) -> None:
    read = stored["pictures"].read([(5, 7), (1000, 1003), (0, 0), (2, 3)])
    assert np.array_equal(read.numpy(), ARRAYS["pictures"][[5, 6, 1000, 1001, 1002, 2]])
    assert stored["none"].read([(0, 4)]).shape == (4, 0)


def test_a_second_time_nothing_is_encoded(tmp_path: Path) -> None:
    first = store_rows("key", chunks, tmp_path)
    again = store_rows("key", lambda: pytest.fail("encoded again"), tmp_path)
    assert list(again) == list(first) == list(ARRAYS)
    assert torch.equal(again["numbers"].read([(0, ROWS)]), first["numbers"].read([(0, ROWS)]))


def test_another_key_is_other_rows(tmp_path: Path) -> None:
    store_rows("key", chunks, tmp_path)
    other = store_rows("another", lambda: iter([{"x": np.zeros((2, 1))}]), tmp_path)
    assert list(other) == ["x"]


@pytest.mark.parametrize("damage", ["flip", "cut", "header", "gone", "manifest"])
def test_damaged_rows_are_encoded_again(tmp_path: Path, damage: str) -> None:
    path = store_rows("key", chunks, tmp_path)["numbers"].path
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-100] ^= 1
    elif damage == "cut":
        del data[-12:]
    elif damage == "header":
        data[data.index(b"1003")] = ord("0")
    path.write_bytes(data)
    if damage == "gone":
        path.unlink()
    if damage == "manifest":
        manifest = path.parent / "manifest.json"
        manifest.write_text(manifest.read_text().replace("1003", "1002"))
    again = store_rows("key", chunks, tmp_path)
    assert np.array_equal(again["numbers"].read([(0, ROWS)]).numpy(), ARRAYS["numbers"])


def test_an_encoding_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    def breaking() -> Iterator[Mapping[str, np.ndarray]]:
        yield next(chunks())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store_rows("key", breaking, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_disk_without_room_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache._Writer, "append", full)
    with pytest.raises(UserError, match="No space left on device; set SOUNDING_CACHE"):
        store_rows("key", chunks, tmp_path)


def test_rows_can_be_read_after_the_cache_dropped_them(stored: dict[str, StoredArray]) -> None:
    stored["numbers"].path.unlink()
    assert np.array_equal(stored["numbers"].read([(3, 5)]).numpy(), ARRAYS["numbers"][3:5])


def test_a_file_that_shrinks_is_noticed(stored: dict[str, StoredArray]) -> None:
    os.truncate(stored["numbers"].path, 1000)
    with pytest.raises(DamagedError, match="has become shorter"):
        stored["numbers"].read([(0, ROWS)])


# Batches


@pytest.mark.parametrize("batch_size", [10, 17, 501, 2000, 1])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_comes_exactly_once_an_epoch_and_whole(
    stored: dict[str, StoredArray], shuffle: bool, batch_size: int
) -> None:
    batches = make(stored, shuffle=shuffle, batch_size=batch_size)
    seen = []
    for step, batch in enumerate(batches.epoch(1)):
        rows = batch.rows.numpy()
        assert len(rows) == batches.rows_in(step)
        for tensor, array in zip(tensors(batch), ARRAYS.values(), strict=False):
            assert np.array_equal(tensor.numpy(), array[rows])
        seen.append(rows)
    assert len(seen) == len(batches)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(ROWS))
    assert np.array_equal(np.concatenate(seen), np.arange(ROWS)) == (not shuffle)


def order(batches: StoredBatches, epoch: int) -> np.ndarray:
    return torch.cat([batch.rows for batch in batches.epoch(epoch)]).numpy()


def test_the_order_is_a_function_of_seed_and_epoch(stored: dict[str, StoredArray]) -> None:
    first = order(make(stored), 0)
    assert np.array_equal(first, order(make(stored), 0))
    assert not np.array_equal(first, order(make(stored), 1))
    assert not np.array_equal(first, order(make(stored, seed=5), 0))


def test_batches_mix_rows_of_many_blocks(stored: dict[str, StoredArray]) -> None:
    """Sixty rows of a window come from seven or eight random blocks of eight rows, dealt out over six batches."""
    batches = list(make(stored).epoch(0))
    blocks = [len(np.unique(batch.rows.numpy() // 8)) for batch in batches[:-1]]
    assert np.mean(blocks) > 5
    windows = [torch.cat([batch.rows for batch in batches[at : at + 6]]).numpy() for at in range(0, 96, 6)]
    assert max(len(np.unique(rows // 8)) for rows in windows) <= 9
    middles = np.array([np.unique(rows // 8).mean() for rows in windows])
    assert np.abs(middles - 62.5).mean() < 25  # neighbouring blocks alone would give 31


def test_rows_of_one_block_are_dealt_out_at_random(stored: dict[str, StoredArray]) -> None:
    batches = list(make(stored, window_bytes=1 << 20, block_bytes=1 << 20).epoch(0))
    rows = np.stack([batch.rows.numpy() for batch in batches[:100]])
    onwards = np.diff(rows, axis=0)
    assert ((onwards > 0) & (onwards < 3)).mean() < 0.05


@pytest.mark.parametrize("start_step", [0, 1, 6, 11, 99, 100])
@pytest.mark.parametrize("shuffle", [True, False])
def test_starting_at_a_step_is_exact(stored: dict[str, StoredArray], shuffle: bool, start_step: int) -> None:
    batches = make(stored, shuffle=shuffle, transform=noisy)
    whole = list(batches.epoch(2))
    assert same(batches.epoch(2, start_step=start_step), iter(whole[start_step:]))


def test_starting_at_a_step_reads_only_windows_from_there_on(
    stored: dict[str, StoredArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = StoredArray.read
    monkeypatch.setattr(StoredArray, "read", lambda self, parts: read.append((self, parts)) or original(self, parts))
    list(make(stored).epoch(0, start_step=96))
    rows = sum(high - low for array, parts in read if array is stored["numbers"] for low, high in parts)
    assert rows == ROWS - 960


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_no_bit(stored: dict[str, StoredArray], workers: int) -> None:
    assert same(make(stored, transform=noisy).epoch(0), make(stored, transform=noisy, workers=workers).epoch(0))


@pytest.mark.parametrize("transform", [None, noisy])
@pytest.mark.parametrize("batch_size", [10, 33])
@pytest.mark.parametrize("world", [2, 3, 4, 16])
def test_shares_joined_are_the_batches_of_one_process(
    stored: dict[str, StoredArray], world: int, batch_size: int, transform: object
) -> None:
    whole = make(stored, batch_size=batch_size, transform=transform)
    shares = [list(whole.shared(rank, world).epoch(3, start_step=5)) for rank in range(world)]
    for expected, parts in zip(whole.epoch(3, start_step=5), zip(*shares, strict=True), strict=True):
        for index, tensor in enumerate(tensors(expected)):
            assert torch.equal(torch.cat([tensors(part)[index] for part in parts]), tensor)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_a_process_reads_only_its_share(
    stored: dict[str, StoredArray], monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    read = []
    original = StoredArray.read
    monkeypatch.setattr(StoredArray, "read", lambda self, parts: read.append((self, parts)) or original(self, parts))
    given = sum(len(batch.rows) for batch in make(stored).shared(1, world).epoch(0))
    assert sum(high - low for array, parts in read if array is stored["numbers"] for low, high in parts) == given


def test_no_more_than_three_windows_are_in_memory(
    stored: dict[str, StoredArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, most = 0, 0

    class Window(list):  # type: ignore[type-arg]
        def __init__(self, *parts: object) -> None:
            nonlocal alive, most
            super().__init__(parts)
            self.steps, self.inputs, self.target, self.weight, self.rows, self.order = parts
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr("sounding.data.stored.Window", Window)
    list(make(stored).epoch(0))
    assert 2 <= most <= 3


def test_an_abandoned_epoch_leaves_no_thread(stored: dict[str, StoredArray]) -> None:
    iterator = make(stored, transform=noisy, workers=2).epoch(0)
    next(iterator)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    del iterator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_some_rows_by_number(stored: dict[str, StoredArray]) -> None:
    rows = torch.tensor([1000, 3, 3])
    gathered = make(stored).gather(rows)
    assert np.array_equal(gathered.inputs[0].numpy(), ARRAYS["numbers"][[1000, 3, 3]])
    assert torch.equal(gathered.rows, rows)


def test_files_of_different_lengths_are_refused(tmp_path: Path, stored: dict[str, StoredArray]) -> None:
    short = store_rows("short", lambda: iter([{"x": np.zeros((2, 1))}]), tmp_path)["x"]
    with pytest.raises(ValueError, match=r"different numbers of rows: \[2, 1003\]"):
        StoredBatches([stored["numbers"], short], batch_size=4)


def test_a_file_that_is_no_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "0.npy"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DamagedError, match=r"0\.npy"):
        StoredArray(path)
