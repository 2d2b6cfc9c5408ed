"""Recommendation: the whole way on users with known tastes, and rankings against a slow and obvious one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from sounding import fit, load, resume
from sounding.errors import DataError, RecipeError
from sounding.recipe import Recipe
from sounding.tasks import ranking
from sounding.tasks.prepare import prepare
from sounding.tasks.ranking import Seen, by_user, ranks_of
from sounding.trust import recommenders
from sounding.trust.problem import Problem
from sounding.trust.recommenders import most_popular, neighbours

QUICK = {"training.plan": "reference", "training.watch": False, "evaluation.bootstrap": 50}
USERS, ITEMS, EACH = 60, 40, 16


def write(path: Path, header: str, rows: list[Any]) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Users like items of their own taste: even users even items, which the columns tell."""
    draw = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        odds = np.array([4.0 if item % 2 == user % 2 else 1.0 for item in range(ITEMS)])
        for time, item in enumerate(draw.choice(ITEMS, EACH, replace=False, p=odds / odds.sum())):
            rating = 4.5 if item % 2 == user % 2 else 1.5
            rows.append((f"u{user}", f"i{item}", round(rating + draw.normal(0, 0.3), 2), time))
    write(tmp_path / "ratings.csv", "user,item,rating,time", rows)
    write(tmp_path / "users.csv", "user,age,club", [(f"u{u}", 20 + u, "ab"[u % 2]) for u in range(USERS)])
    write(tmp_path / "items.csv", "item,title,side", [(f"i{i}", f"Film {i}", "xy"[i % 2]) for i in range(ITEMS)])
    return tmp_path


def settings(files: Path, **more: Any) -> dict[str, Any]:
    return {
        **QUICK,
        "task": "recommendation",
        "recommendation.users": str(files / "users.csv"),
        "recommendation.items": str(files / "items.csv"),
        "data.ignore": ["time"],
        **more,
    }


def run_of(files: Path, target: str | None = "rating", name: str = "run", **more: Any) -> Any:
    asked = settings(files, **more)
    return fit(files / "ratings.csv", target, settings=asked, out=files / name, say=None, progress=False)


def test_ratings_follow_the_taste(files: Path) -> None:
    run = run_of(files, **{"training.epochs": 20})
    assert run.metrics["test"]["rmse"] < 0.6  # noise is 0.3, the mean rating 1.3 off
    assert run.results["baseline"]["means of users and items"]["test"]["rmse"] > 0.8
    assert run.results["verdict"]["winner"] == "network"
    write(files / "who.csv", "user", [("u0",), ("u1",)])
    table, _ = load(files / "run").predict_table(files / "who.csv")
    assert table.column_names == ["user", "rank", "item", "score"]
    assert len(table) == 20
    for row in table.to_pylist()[:3]:
        assert int(row["item"][1:]) % 2 == 0
    met = {row.split(",")[1] for row in (files / "ratings.csv").read_text().splitlines() if row.startswith("u0,")}
    prepared = prepare(files / "ratings.csv", {**settings(files), "target": "rating"})
    tested = [prepared.table.data["item"][int(row)].as_py() for row in prepared.split.test]
    advised = {row["item"] for row in table.to_pylist() if row["user"] == "u0"}
    assert not advised & (met - set(tested))
    assert run.results["figures"]["recommended"][0]["before"][0].startswith("Film ")


def test_cold_users_are_answered_from_their_columns(files: Path) -> None:
    run_of(files, **{"training.epochs": 20})
    write(files / "new.csv", "user,age,club", [("new", 30, "a"), ("other", 31, "b")])
    table, findings = load(files / "run").predict_table(files / "new.csv")
    (cold,) = (finding for finding in findings if finding.rule == "cold-users")
    assert cold.title == "2 of 2 rows are of users new to the network: answered from their columns: age, club"
    for row in table.to_pylist():
        if row["rank"] <= 5:
            assert int(row["item"][1:]) % 2 == (row["user"] == "other"), row


@pytest.mark.parametrize("negatives", [0, 8])
def test_choices_are_ranked_better_than_by_popularity(files: Path, negatives: int) -> None:
    run = run_of(files, None, **{"recommendation.negatives": negatives, "training.epochs": 15})
    scores, simple = run.metrics["test"], run.results["baseline"]
    assert scores["recall_at_10"] > simple["the most popular items"]["test"]["recall_at_10"]
    low, high = run.results["intervals"]["test"]["recall_at_10"]
    assert low < scores["recall_at_10"] < high
    popular = run.results["figures"]["popularity"]
    assert popular["met"][-1] == popular["advised"][-1] == 1.0
    assert sorted(popular["met"]) == popular["met"]
    assert 0 < popular["lists"] <= USERS
    again = load(files / "run").evaluate(files / "ratings.csv")  # all rows: those that were met have no rank
    assert again.rows == USERS * EACH


def test_it_goes_on_in_the_same_bits(files: Path) -> None:
    more = {"recommendation.negatives": 4, "training.epochs": 2}
    whole = run_of(files, None, name="whole", **more)
    run_of(files, None, name="half", **more)
    (files / "half" / "results.json").unlink()
    again = resume(files / "half", say=None, progress=False)
    write(files / "who.csv", "user", [("u0",), ("u7",)])
    np.testing.assert_array_equal(whole.predict(files / "who.csv"), again.predict(files / "who.csv"))


def test_ranks_against_sorting() -> None:
    draw = np.random.default_rng(0)
    scores = torch.from_numpy(draw.integers(0, 6, (50, 12)).astype(np.float32))  # many are equal
    codes = draw.integers(0, 13, 50)
    out = draw.random((50, 12)) < 0.3
    ranks = ranks_of(scores, torch.from_numpy(codes), torch.from_numpy(out)).numpy()
    for row in range(50):
        order = [item for item in sorted(range(12), key=lambda item: (-scores[row, item], item)) if not out[row, item]]
        expected = order.index(codes[row] - 1) if codes[row] - 1 in order else float("inf")
        assert ranks[row] == expected


def test_what_is_no_number_is_ranked_last() -> None:
    scores, codes = torch.tensor([[0.1, float("nan"), 0.5]] * 3), torch.tensor([1, 2, 3])
    assert ranks_of(scores, codes, torch.zeros(3, 3, dtype=torch.bool)).tolist() == [1, 2, 0]


def test_metrics_of_lists_against_the_obvious_way_and_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    items, top = 30, 10
    ranks, users, recalls, gains = [], [], [], []
    for user in range(25):
        wanted = draw.choice(items, draw.integers(1, 14), replace=False)
        order = draw.permutation(items)
        place = {item: at for at, item in enumerate(order)}
        ranks += [place[item] for item in wanted]
        users += [user] * len(wanted)
        recalls.append(len(set(order[:top]) & set(wanted)) / len(wanted))
        relevant = np.isin(np.arange(items), wanted).astype(float)
        gains.append(ndcg_score([relevant], [[-place[item] for item in range(items)]], k=top))
    found, _ = by_user(np.array(ranks, dtype=float), np.array(users), top)
    np.testing.assert_allclose(found["recall_at_10"], recalls)
    np.testing.assert_allclose(found["ndcg_at_10"], gains)


def test_users_in_parts_are_recommended_the_same(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(files, None, **{"training.epochs": 1})
    write(files / "who.csv", "user", [(f"u{user}",) for user in range(7)])
    at_once = run.predict(files / "who.csv")
    catalogue = run.network.catalogue()
    monkeypatch.setattr(ranking, "CELLS", 2 * catalogue.shape[0] * catalogue.shape[1])  # two users at a time
    assert [len(part) for (part,) in ranking._in_parts(catalogue, torch.zeros(7, 1))] == [2, 2, 2, 1]
    np.testing.assert_array_equal(load(files / "run").predict(files / "who.csv"), at_once)


def test_where_no_items_are_left_there_are_none(files: Path) -> None:
    run = run_of(files, None, **{"training.epochs": 1, "recommendation.top": ITEMS})
    write(files / "who.csv", "user", [("u0",), ("u1",)])
    names, (table, _) = run.predict(files / "who.csv"), run.predict_table(files / "who.csv")
    assert names.shape == (2, ITEMS)
    assert [name for name in names.ravel() if name is not None] == table["item"].to_pylist()
    assert len(table) < 2 * ITEMS


def test_what_was_seen(files: Path) -> None:
    draw = np.random.default_rng(2)
    users, items = draw.integers(0, 6, 40), draw.integers(0, 9, 40)
    seen = Seen(6, 0)
    seen.set(users, items)
    mask = seen.mask(torch.tensor([3, 0, 3]), 9).numpy()
    for row, user in enumerate([3, 0, 3]):
        assert set(np.flatnonzero(mask[row])) == set(items[users == user])


def test_simple_models_against_loops(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommenders, "NEIGHBOURS", (ITEMS,))
    prepared = prepare(files / "ratings.csv", settings(files))
    problem = Problem(
        prepared.task, prepared.table, prepared.schema, prepared.split, prepared.encoded, prepared.target, 0
    )
    answers = {model: model(problem) for model in (most_popular, neighbours)}
    truth, split = prepared.target.astype(int), prepared.split
    users, items = truth[:, 0], truth[:, 1]
    met = np.zeros((USERS + 1, ITEMS + 1))
    met[users[split.train], items[split.train]] = 1
    held = np.zeros_like(met)
    held[users[split.validation], items[split.validation]] = 1
    counts = met.sum(0)
    for row in split.test:
        before = sum(
            not met[users[row], item]
            and not held[users[row], item]
            and (-counts[item], item) < (-counts[items[row]], items[row])
            for item in range(1, ITEMS + 1)
        )
        assert answers[most_popular] is not None
        assert answers[most_popular][0][row] == before
    norms = np.sqrt(counts[1:])
    cosine = (met.T @ met)[1:, 1:] / norms[:, None] / norms
    np.fill_diagonal(cosine, 0)
    for row in split.test:
        scores = np.float32(met[users[row], 1:] @ cosine)
        out = (met + held)[users[row], 1:] > 0
        assert answers[neighbours] is not None
        rank = answers[neighbours][0][row]
        better = ((scores > scores[items[row] - 1] + 1e-6) & ~out).sum()
        equal = (np.abs(scores - scores[items[row] - 1]) <= 1e-6).sum()
        assert better <= rank <= better + equal


def test_the_last_of_each_user_tests(files: Path) -> None:
    asked = {"recommendation.split": "last", "data.time": "time", "data.ignore": []}
    prepared = prepare(files / "ratings.csv", settings(files, **asked))
    times = prepared.table.data["time"].to_numpy()
    assert len(prepared.split.test) == len(prepared.split.validation) == USERS
    assert set(times[prepared.split.test].astype(int)) == {EACH - 1}
    assert set(times[prepared.split.validation].astype(int)) == {EACH - 2}


def test_an_interaction_without_a_time_is_not_the_last(files: Path) -> None:
    header, first, *others = (files / "ratings.csv").read_text().splitlines()
    at = header.split(",").index("time")
    cells = first.split(",")
    cells[at] = ""
    (files / "ratings.csv").write_text("\n".join([header, ",".join(cells), *others]) + "\n")
    asked = {"recommendation.split": "last", "data.time": "time", "data.ignore": []}
    with pytest.raises(DataError, match=r"ratings\.csv:2 .*1 rows have no time"):
        prepare(files / "ratings.csv", settings(files, **asked))


def test_columns_find_their_side(files: Path) -> None:
    prepared = prepare(files / "ratings.csv", {**settings(files, **{"data.ignore": []}), "target": "rating"})
    sides = {field.name: (field.role, field.side) for field in prepared.schema.fields}
    assert sides["user"] == ("input", "user")
    assert sides["age"] == sides["club"] == ("input", "user")
    assert sides["side"] == ("input", "item")
    assert sides["title"][0] == sides["time"][0] == "ignored"
    left = {finding.evidence["column"] for finding in prepared.findings if finding.rule == "not-of-user-or-item"}
    assert left == {"title", "time"}


def test_columns_are_kept_of_training_rows_alone(tmp_path: Path) -> None:
    rows = [(f"u{n % 9}", f"i{n // 9 % 7}", 20 + n % 9, 7 + n // 9 % 7) for n in range(63)]
    write(tmp_path / "r.csv", "user,item,age,weight", rows)
    write(tmp_path / "t.csv", "user,item,age,weight", [(f"u{n}", f"i{n % 7}", 99, 99) for n in range(9)])
    asked = {**QUICK, "task": "recommendation", "data.kinds": {"age": "number", "weight": "number"}}
    prepared = prepare(tmp_path / "r.csv", {**asked, "data.test": 0.0}, test=tmp_path / "t.csv")
    network: Any = prepared.network()
    for changed in (network, prepared.by(prepared.recipe).network()):
        for side in ("user", "item"):
            numbers, categories = (tensor.numpy() for tensor in changed.columns(side))
            blocks = [prepared.encoded.blocks[f"{side}:{form}"] for form in ("numbers", "categories")]
            for row in prepared.split.train:
                code = int(blocks[1][row, 0])
                np.testing.assert_array_equal(numbers[code], blocks[0][row])
                np.testing.assert_array_equal(categories[code], blocks[1][row])


def test_repeats_are_in_one_part_only(tmp_path: Path) -> None:
    rows = [(f"u{n % 10}", f"i{n % 7}") for n in range(140)]  # each pair twice
    write(tmp_path / "r.csv", "user,item", rows)
    prepared = prepare(tmp_path / "r.csv", {**QUICK, "task": "recommendation"})
    pairs = [tuple(prepared.target[row, :2]) for part in prepared.split.parts.values() for row in part]
    assert len(pairs) == len(set(pairs)) == 70
    assert any("repeat an interaction" in line for line in prepared.decisions)


def test_mistakes_are_one_line(files: Path) -> None:
    for changed, words in (
        ({"recommendation.item": "itme"}, r'there is no column "itme" of items; .*item'),
        ({"recommendation.user": "item"}, r"are both"),
        ({"recommendation.feedback": "explicit"}, r"explicit feedback needs a rating"),
        ({"recommendation.split": "last"}, r"no column tells the time"),
    ):
        with pytest.raises((DataError, RecipeError), match=words):
            prepare(files / "ratings.csv", settings(files, **changed))
    write(files / "users.csv", "user,age", [("u1", 3), ("u1", 4)])
    with pytest.raises(DataError, match=r'"u1" stands in more than one row'):
        prepare(files / "ratings.csv", settings(files))


def test_it_has_a_recipe_that_repeats_it(files: Path) -> None:
    prepared = prepare(files / "ratings.csv", settings(files))
    assert prepared.recipe.recommendation.feedback == "implicit"
    assert prepared.recipe.network.options == {"members": 1, "size": 64}
    assert Recipe.from_toml(prepared.recipe.to_toml()) == prepared.recipe
