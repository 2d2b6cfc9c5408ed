from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from sounding.batches import Batch, Batches, in_order
from sounding.randomness import generator

X = torch.arange(107 * 3, dtype=torch.float32).reshape(107, 3)
PICTURES = torch.arange(107 * 4).reshape(107, 1, 2, 2).to(torch.uint8)
Y = torch.arange(107) % 5
WEIGHT = torch.linspace(1, 2, 107)


def noisy(batch: Batch, epoch: int, step: int) -> Batch:
    """Draws that depend on the place in the batch, and mixing across it: what augmentation does."""
    noise = torch.from_numpy(generator(0, epoch, step).normal(size=batch.inputs[0].shape)).float()
    return batch._replace(inputs=(batch.inputs[0] + noise + batch.inputs[0].mean(0), *batch.inputs[1:]))


def make(**settings: object) -> Batches:
    return Batches((X, PICTURES), Y, WEIGHT, **{"batch_size": 10, "seed": 4, "shuffle": True, **settings})  # type: ignore[arg-type]


def tensors(batch: Batch) -> list[Tensor]:
    assert batch.target is not None
    assert batch.weight is not None
    return [*batch.inputs, batch.target, batch.weight, batch.rows]


def same(one: Iterator[Batch], other: Iterator[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for left, right in pairs for a, b in zip(tensors(left), tensors(right), strict=True))


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_a_shuffled_epoch_is_the_permutation_of_its_seed_and_epoch_in_slices() -> None:
    order = generator(4, 2, "order").permutation(107)
    batches = list(make().epoch(2))
    assert [len(batch.rows) for batch in batches] == [10] * 10 + [7]
    for step, batch in enumerate(batches):
        rows = order[step * 10 : step * 10 + 10]
        expected = [X.numpy()[rows], PICTURES.numpy()[rows], Y.numpy()[rows], WEIGHT.numpy()[rows], rows]
        assert all(np.array_equal(a.numpy(), b) for a, b in zip(tensors(batch), expected, strict=True))


@pytest.mark.parametrize(("rows", "sizes"), [(21, [10, 11]), (20, [10, 10]), (22, [10, 10, 2]), (1, [1]), (0, [])])
def test_while_shuffling_no_batch_is_a_single_row(rows: int, sizes: list[int]) -> None:
    batches = Batches((X[:rows],), batch_size=10, shuffle=True)
    assert [len(batch.rows) for batch in batches.epoch(0)] == sizes
    assert [batches.rows_in(step) for step in range(len(batches))] == sizes
    unshuffled = Batches((X[:rows],), batch_size=10)
    assert [unshuffled.rows_in(step) for step in range(len(unshuffled))] == [
        len(batch.rows) for batch in unshuffled.epoch(0)
    ]


def test_unshuffled_batches_are_views() -> None:
    first, second, *_ = make(shuffle=False).epoch(0)
    assert second.inputs[0].data_ptr() == X[10:].data_ptr()
    assert second.rows.tolist() == list(range(10, 20))
    assert torch.equal(first.inputs[1], PICTURES[:10])


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("start_step", [0, 4, 10, 11])
@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_no_bit(workers: int, start_step: int, shuffle: bool) -> None:
    plain, threaded = (make(transform=noisy, shuffle=shuffle, workers=count) for count in (0, workers))
    assert same(plain.epoch(3, start_step=start_step), threaded.epoch(3, start_step=start_step))
    assert not loaders()


@pytest.mark.parametrize("transform", [None, noisy])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_shares_joined_are_the_batches_of_one_process(world: int, transform: object) -> None:
    whole = make(transform=transform)
    shares = [list(whole.shared(rank, world).epoch(1, start_step=2)) for rank in range(world)]
    expected = list(whole.epoch(1, start_step=2))
    for step, parts in enumerate(zip(*shares, strict=True)):
        sizes = [len(part.rows) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) == whole.shared(0, world).rows_in(step + 2)
        for index, tensor in enumerate(tensors(expected[step])):
            assert torch.equal(torch.cat([tensors(part)[index] for part in parts]), tensor)


def test_a_share_is_gathered_alone() -> None:
    gathered = []

    class Counting(Batches):
        def gather(self, rows: Tensor) -> Batch:
            gathered.append(len(rows))
            return super().gather(rows)

    next(Counting((X,), batch_size=10, shuffle=True).shared(1, 2).epoch(0))
    assert gathered == [5]


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 0)])
def test_a_share_is_one_of_those_there_are(rank: int, world: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} is not in"):
        make().shared(rank, world)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_error_keeps_its_traceback_and_names_the_step(workers: int) -> None:
    def breaks_on_the_sixth(batch: Batch, epoch: int, step: int) -> Batch:
        if step >= 5:
            raise ZeroDivisionError("no picture left")
        return batch

    with pytest.raises(ZeroDivisionError, match="no picture left") as caught:
        list(make(transform=breaks_on_the_sixth, workers=workers).epoch(1))
    assert any("epoch 2, step 6" in note for note in caught.value.__notes__)
    assert any(frame.name == "breaks_on_the_sixth" for frame in traceback.extract_tb(caught.value.__traceback__))
    assert not loaders()


def test_all_batches_before_an_error_come_out() -> None:
    def breaks_on_the_sixth(batch: Batch, epoch: int, step: int) -> Batch:
        if step == 5:
            raise ZeroDivisionError
        return batch

    iterator = make(transform=breaks_on_the_sixth, workers=4).epoch(0)
    assert [len(next(iterator).rows) for _ in range(5)] == [10] * 5
    with pytest.raises(ZeroDivisionError):
        next(iterator)


@pytest.mark.parametrize("workers", [1, 4])
def test_an_abandoned_epoch_leaves_no_thread(workers: int) -> None:
    iterator = make(transform=noisy, workers=workers).epoch(0)
    next(iterator)
    assert loaders()
    del iterator
    assert not loaders()


def test_workers_are_only_a_few_batches_ahead() -> None:
    begun = []

    def steps() -> Iterator[int]:
        for step in range(1000):
            begun.append(step)
            yield step

    assert next(in_order(str, steps(), workers=2)) == "0"
    assert len(begun) == 5


LENGTHS = torch.from_numpy(generator(0, "lengths").integers(1, 40, size=1234))
TOKENS = (torch.arange(40)[None] < LENGTHS[:, None]).long()


def cut(batch: Batch) -> Batch:
    """The places that some row of the batch uses."""
    return batch._replace(inputs=(batch.inputs[0][:, : int(batch.inputs[0].sum(1).max())],))


def by_length(**settings: object) -> Batches:
    options = {"batch_size": 8, "seed": 3, "shuffle": True, "lengths": LENGTHS, "trim": cut}
    return Batches((TOKENS,), **{**options, **settings})  # type: ignore[arg-type]


def test_rows_of_like_length_share_a_batch_and_each_row_comes_once() -> None:
    batches = list(by_length().epoch(1))
    assert sorted(torch.cat([batch.rows for batch in batches]).tolist()) == list(range(1234))
    assert [len(batch.rows) for batch in batches] == [8] * 154 + [2]
    for batch in batches:
        assert batch.inputs[0].sum(1).tolist() == LENGTHS[batch.rows].tolist()
        assert batch.inputs[0].shape[1] == LENGTHS[batch.rows].max()
    places = sum(batch.inputs[0].numel() for batch in batches)
    mixed = sum(batch.inputs[0].numel() for batch in by_length(lengths=None).epoch(1))
    assert LENGTHS.sum() <= places < 1.1 * LENGTHS.sum() < 1.5 * LENGTHS.sum() < mixed


def test_batches_of_like_length_come_in_random_order_that_differs_by_epoch() -> None:
    first, again, second = (list(by_length().epoch(epoch)) for epoch in (0, 0, 1))
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(first, again, strict=True))
    assert any(not torch.equal(one.rows, other.rows) for one, other in zip(first, second, strict=True))
    means = np.array([float(LENGTHS[batch.rows].double().mean()) for batch in first])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 17])
def test_few_rows_of_different_length(rows: int) -> None:
    few = Batches((TOKENS[:rows],), batch_size=8, shuffle=True, lengths=LENGTHS[:rows])
    seen = [batch.rows for batch in few.epoch(0)]
    assert sorted(torch.cat([torch.arange(0), *seen]).tolist()) == list(range(rows))


def test_unshuffled_batches_are_trimmed_in_their_order() -> None:
    batches = list(by_length(shuffle=False).epoch(0))
    assert torch.cat([batch.rows for batch in batches]).tolist() == list(range(1234))
    assert all(batch.inputs[0].shape[1] == LENGTHS[batch.rows].max() for batch in batches)
