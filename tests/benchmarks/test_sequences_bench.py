"""The sequences that the benchmarks make, and the files that they read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.long_memory import CODES, PROBLEMS, SYMBOLS, adding, copied, copying
from benchmarks.recommendation import GENRES, written


def test_the_adding_problem() -> None:
    series, sums = adding(100, 4000, seed=3)
    assert series.shape == (4000, 2, 100)
    assert (series[:, 1, :50].sum(1) == 1).all()
    assert (series[:, 1, 50:].sum(1) == 1).all()
    torch.testing.assert_close((series[:, 0] * series[:, 1]).sum(1, keepdim=True), sums)
    assert (
        abs(float((sums - 1).square().mean()) - PROBLEMS["adding"].guess) < 0.02
    )  # the variance of a sum of two uniform numbers
    assert not torch.equal(adding(100, 10, seed=4)[0], series[:10])


def test_copy_memory() -> None:
    codes, symbols = copying(100, 4000, seed=3)
    assert codes.shape == (4000, 120)
    torch.testing.assert_close(codes[:, :10], symbols)
    assert ((codes == 1).sum(1) == 1).all()
    assert (codes[:, 109] == 1).all()  # so that a hundred places lie between a symbol and its answer
    assert torch.equal(symbols.unique(), torch.arange(2, CODES))
    assert not torch.equal(copying(100, 10, seed=4)[0], codes[:10])


def test_copying_is_judged_by_the_last_places() -> None:
    codes, symbols = copying(20, 5, seed=0)
    logits = torch.full((5, codes.shape[1], CODES), -30.0)
    logits[:, -SYMBOLS:] = torch.nn.functional.one_hot(symbols, CODES) * 60.0 - 30.0
    assert float(copied(logits, symbols)) < 1e-6
    evenly = torch.zeros(5, codes.shape[1], CODES)
    evenly[:, :, :2] = -1e9
    assert float(copied(evenly, symbols)) == pytest.approx(PROBLEMS["copying"].guess)


@pytest.mark.parametrize("asked", PROBLEMS)
def test_networks_see_every_point(asked: str) -> None:
    problem = PROBLEMS[asked]
    series, _ = problem.examples(20, 3, 0)
    for build, _ in problem.networks.values():
        network = build(20).eval()
        changed = series.clone()
        changed[..., 0] += 1 if series.is_floating_point() else -1
        first, second = network(series), network(changed)
        assert first.shape == ((3, 1) if asked == "adding" else (3, 40, CODES))
        assert not torch.equal(first[:, -1], second[:, -1])


def test_films_become_csv(tmp_path: Path) -> None:
    (tmp_path / "u1.base").write_text("1\t2\t5\t874965758\n")
    (tmp_path / "u1.test").write_text("1\t3\t4\t874965759\n")
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n")
    (tmp_path / "u.item").write_bytes(
        "2|Misérables, Les (1995)|01-Jan-1995||url|".encode("latin-1") + b"|".join([b"0"] * 19) + b"\n"
    )
    to = tmp_path / "csv"
    to.mkdir()
    written(tmp_path, to)
    assert (to / "u1.test.csv").read_text().splitlines() == ["user,item,rating,time", "1,3,4,874965759"]
    header, film = (to / "items.csv").read_text(encoding="utf-8").splitlines()
    assert header.count(",") == 2 + len(GENRES)
    assert film.startswith('2,"Misérables, Les (1995)",1995,0')
