"""Users whose next item follows from the last one: networks that read histories find it, factorisation cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sounding import fit, load, resume
from sounding.errors import DataError, RecipeError
from sounding.networks import HistoryTransformer
from sounding.recipe import Recipe
from sounding.tasks.met import HistoryBatches, HistoryRecommender, Met, stretch_of
from sounding.tasks.prepare import prepare

QUICK = {"training.plan": "reference", "training.watch": False, "evaluation.bootstrap": 50}
ITEMS, USERS = 40, 90


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """From each item one other follows; users begin anywhere. Rows are in no order, times are."""
    draw = np.random.default_rng(0)
    circle = draw.permutation(ITEMS)
    after = dict(zip(circle.tolist(), np.roll(circle, -1).tolist(), strict=True))
    rows = []
    for user in range(USERS):
        item = int(draw.integers(ITEMS))
        for time in range(int(draw.integers(6, 14))):
            rows.append(f"u{user},i{item},{1000 * user + time},{'ab'[user % 2]}")
            item = after[item]
    draw.shuffle(rows)
    path = tmp_path / "met.csv"
    path.write_text("\n".join(["user,item,time,club", *rows]) + "\n")
    return path


def settings(**more: Any) -> dict[str, Any]:
    return {
        **QUICK,
        "task": "recommendation",
        "recommendation.split": "last",
        "data.time": "time",
        "network.name": "history_transformer",
        "network.options": {"size": 32, "depth": 1},
        "training.epochs": 8,
        **more,
    }


def run_of(source: Path, name: str = "run", **more: Any) -> Any:
    return fit(source, None, settings=settings(**more), out=source.parent / name, say=None, progress=False)


@pytest.mark.parametrize("name", ["history_transformer", "history_recurrent"])
def test_what_follows_the_last_item_is_found(chain: Path, name: str) -> None:
    options = {"size": 32}
    run = run_of(chain, **{"network.name": name, "network.options": options, "training.epochs": 12})
    assert run.metrics["test"]["recall_at_1"] > 0.95
    simple = run.results["baseline"]["item nearest neighbours"]["test"]["recall_at_1"]
    assert simple < 0.8  # it cannot tell what follows from what came before
    assert run.results["verdict"]["winner"] == "network" or run.metrics["test"]["recall_at_10"] == 1.0
    who = chain.parent / "who.csv"
    who.write_text("user\nu0\nu1\nsomeone new\n")
    table, findings = load(chain.parent / "run").predict_table(who)
    lines = [line.split(",") for line in chain.read_text().splitlines()[1:]]
    for user in ("u0", "u1"):
        met = {item for of, item, *_ in lines if of == user}
        own = [item for of, item, time, _ in lines if of == user and int(time) % 1000 == 0]
        advised = [row["item"] for row in table.to_pylist() if row["user"] == user]
        last = max((int(time), item) for of, item, time, _ in lines if of == user)[1]
        assert advised[0] == last, (own, advised)  # the test row, as it is not known to be met
        assert not set(advised) & (met - {last})
    assert any(finding.rule == "cold-users" for finding in findings)
    assert [row["rank"] for row in table.to_pylist() if row["user"] == "someone new"] == list(range(1, 11))


def test_factorisation_cannot(chain: Path) -> None:
    run = run_of(chain, **{"network.name": "matrix_factorization", "network.options": {}, "training.epochs": 15})
    assert run.metrics["test"]["recall_at_1"] < 0.8


def test_it_goes_on_in_the_same_bits(chain: Path) -> None:
    more = {"recommendation.negatives": 5, "training.epochs": 2}
    whole = run_of(chain, "whole", **more)
    run_of(chain, "half", **more)
    (chain.parent / "half" / "results.json").unlink()
    again = resume(chain.parent / "half", say=None, progress=False)
    assert whole.metrics == again.metrics
    who = chain.parent / "who.csv"
    who.write_text("user\nu0\nu7\n")
    np.testing.assert_array_equal(whole.predict(who), again.predict(who))
    pairs = load(chain.parent / "half").evaluate(chain)  # what was met has no rank, and no row fails
    assert pairs.rows == len(chain.read_text().splitlines()) - 1


def recommender(met: Met, longest: int = 200) -> tuple[HistoryRecommender, int]:
    torch.manual_seed(0)
    users, items = len(met.starts) - 1, 12
    network = HistoryTransformer((1, (users, 3)), (0, (items,)), size=8, longest=longest)
    columns = [
        (torch.zeros(users, 1), torch.zeros(users, 2, dtype=torch.int32)),
        (torch.zeros(items, 0), torch.arange(items, dtype=torch.int32)[:, None]),
    ]
    whole = HistoryRecommender(network, True, columns, len(met.items), 0).eval()
    whole.met.load_state_dict(met.state_dict())
    return whole, items


def some(seed: int, users: int = 5, items: int = 12) -> tuple[Met, np.ndarray]:
    """What users met, and (N, 3) the same rows: user, item, time; some times are equal."""
    draw = np.random.default_rng(seed)
    rows = [
        (user, item, int(draw.integers(0, 6)))
        for user in range(1, users)
        for item in draw.permutation(np.arange(1, items))[: draw.integers(1, items)]
    ]
    table = np.array(rows)[draw.permutation(len(rows))]
    met = Met(users, len(table))
    met.set(table[:, 0], table[:, 1], table[:, 2].astype(float))
    return met, table


def test_what_was_met_before_against_sorting() -> None:
    met, table = some(0)
    draw = np.random.default_rng(1)
    asked = np.stack([draw.integers(0, 5, 200), draw.integers(0, 15, 200), draw.integers(-1, 8, 200)], 1)
    before = met.before(*torch.from_numpy(asked[:, :2]).unbind(1), torch.from_numpy(asked[:, 2].astype(float)))
    for (user, item, time), places in zip(asked, before.tolist(), strict=True):
        own = sorted((row for row in table.tolist() if row[0] == user), key=lambda row: row[2])
        names = [row[1] for row in own]
        assert places == (names.index(item) if item in names else sum(row[2] <= time for row in own))


def test_rows_together_are_read_as_each_alone() -> None:
    met, table = some(2)
    whole, _ = recommender(met)
    draw = np.random.default_rng(3)
    users = torch.from_numpy(draw.integers(0, 5, 30))  # 0 is new, with columns that differ
    numbers = torch.where(users[:, None] == 0, torch.randn(30, 1), users[:, None].float())
    categories = torch.stack([users, users % 3], 1)
    places = (torch.from_numpy(draw.random(30)) * (met.lengths(users) + 1)).long()
    together = whole.read(numbers, categories, places)
    for row in range(30):
        own = sorted((one for one in table.tolist() if one[0] == users[row]), key=lambda one: one[2])
        codes = torch.tensor([one[1] for one in own[: places[row]]], dtype=torch.int64)[None, :, None]
        vectors = whole.reader.encode_items(torch.zeros(*codes.shape[:2], 0), codes)
        alone = whole.reader.encode_histories(numbers[row : row + 1], categories[row : row + 1], vectors)[0, -1]
        torch.testing.assert_close(together[row], alone)


def test_long_histories_are_read_in_stretches_that_overlap() -> None:
    places = np.arange(60)
    for longest in (2, 5, 8):
        stretches = stretch_of(places, longest)
        inside = places - stretches * (longest // 2)
        assert inside.max() <= longest
        assert inside[places > longest].min() >= longest - longest // 2
        assert (stretches[places <= longest] == 0).all()
    met, table = some(4)
    whole, _ = recommender(met, longest=4)
    user = int(np.bincount(table[:, 0]).argmax())
    own = sorted((one for one in table.tolist() if one[0] == user), key=lambda one: one[2])
    numbers, categories = torch.zeros(1, 1), torch.tensor([[user, 0]])
    read = whole.read(numbers, categories, torch.tensor([7]))  # stretch 2: items 4, 5 and 6
    codes = torch.tensor([one[1] for one in own[4:7]])[None, :, None]
    vectors = whole.reader.encode_items(torch.zeros(1, 3, 0), codes)
    torch.testing.assert_close(read[0], whole.reader.encode_histories(numbers, categories, vectors)[0, -1])


def test_batches_keep_histories_together() -> None:
    draw = np.random.default_rng(0)
    stretches = draw.integers(0, 40, 1000)
    batches = HistoryBatches((torch.arange(1000),), batch_size=64, seed=3, shuffle=True)
    batches.stretches = stretches
    rows = torch.cat([batch.rows for batch in batches.epoch(1)]).numpy()
    assert sorted(rows) == list(range(1000))
    parts = sum(len(np.unique(stretches[batch.rows.numpy()])) for batch in batches.epoch(1))
    assert parts <= 40 + len(batches)  # a history is divided by the edges of batches alone
    again = torch.cat([batch.rows for batch in batches.epoch(1)]).numpy()
    np.testing.assert_array_equal(rows, again)
    assert not np.array_equal(rows, torch.cat([batch.rows for batch in batches.epoch(2)]).numpy())


def test_mistakes_are_one_line(chain: Path) -> None:
    for changed, words in (
        ({"data.time": "", "recommendation.split": "rows"}, r"no column tells the time; set data\.time"),
        ({"target": ["time2"]}, r"time2"),
        ({"network.options": {"longest": 1}}, r"longest is 1; give 2 items or more"),
    ):
        with pytest.raises((DataError, RecipeError), match=words):
            prepare(chain, settings(**changed))
    text = chain.read_text().replace(",club", ",club,stars").replace(",a\n", ",a,3\n").replace(",b\n", ",b,4\n")
    chain.write_text(text)
    with pytest.raises(RecipeError, match=r"predicts no ratings; set recommendation\.feedback=implicit"):
        prepare(chain, settings(target=["stars"]))
    first, *rest = text.splitlines()
    user, item, _, *more = rest[4].split(",")
    rest[4] = ",".join([user, item, "", *more])
    chain.write_text("\n".join([first, *rest]) + "\n")
    with pytest.raises(DataError, match=r"met\.csv:6.*have no time"):
        prepare(chain, settings(**{"recommendation.split": "rows"}))


def test_long_histories_are_told_and_the_recipe_repeats(chain: Path) -> None:
    prepared = prepare(chain, settings(**{"network.options": {"size": 8, "longest": 4}}))
    (told,) = (finding for finding in prepared.findings if finding.rule == "long-histories")
    assert told.evidence == {"users": USERS, "longest": 4}
    assert Recipe.from_toml(prepared.recipe.to_toml()) == prepared.recipe
