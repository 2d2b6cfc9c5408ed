from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sounding.batches import Batches
from sounding.errors import DivergedError, InterruptedRunError, RecipeError, UserError
from sounding.finding import Finding, Remedy
from sounding.recipe import Recipe, TrainingRecipe
from sounding.training import EpochRecord, Player, StepRecord, Trainer, healing
from sounding.training.healing import Records, Score, Training, heal, remedied_by
from sounding.training.history import History

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(420, 6, generator=GENERATOR)
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).long()
TRAIN, HELD_OUT = (X[:300], Y[:300]), (X[300:], Y[300:])
RATE = "training.optimizer.lr"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))


def trainer(**settings) -> Trainer:
    return Trainer(network(), **{"epochs": 10, "batch_size": 30, "progress": False, **settings})


def loss_of(t: Trainer) -> float:
    return F.cross_entropy(t.predict(HELD_OUT[0]), HELD_OUT[1]).item()


def state(t: Trainer) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in t.network.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(a.equal(b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def good() -> float:
    t = trainer(lr=1e-2)
    t.fit(TRAIN, HELD_OUT)
    return loss_of(t)


@pytest.mark.parametrize(("lr", "rule"), [(30.0, "lr_too_high"), (1e-6, "lr_too_low")])
def test_a_rate_that_is_far_off_is_healed(lr: float, rule: str, good: float) -> None:
    plain = trainer(lr=lr)
    plain.fit(TRAIN, HELD_OUT)
    t = trainer(lr=lr, heal=True)
    history = t.fit(TRAIN, HELD_OUT)
    assert loss_of(t) < good + 0.1 * (loss_of(plain) - good)
    assert history.best is not None
    assert history[history.best].validation["loss"] == pytest.approx(loss_of(t), rel=1e-5)
    first = next(finding for finding in t.findings if finding.rule == "healed")
    assert first.severity == "info"
    assert first.evidence["answers"] == rule
    assert first.evidence["kept"]
    assert first.evidence["instead_of"] == {RATE: lr}
    assert first.evidence["before"] == pytest.approx(loss_of(plain), rel=1e-5)
    mended = next(finding for finding in t.findings if finding.rule == rule and finding.title.startswith("mended: "))
    assert (mended.severity, first.title in mended.confirmed) == ("info", True)

    again = trainer(recipe=t.recipe)  # the recipe that was found repeats it
    assert (again.recipe.heal, again.recipe.optimizer.lr) == (False, t.recipe.optimizer.lr)
    again.fit(TRAIN, HELD_OUT)
    assert same(state(again), state(t))


def test_a_loss_that_was_lost_is_healed(good: float) -> None:
    settings = {"lr": 500.0, "optimizer": "sgd", "clip_norm": 0.0}
    with pytest.raises(DivergedError):
        trainer(**settings).fit(TRAIN, HELD_OUT)
    t = trainer(**settings, heal=True)
    t.fit(TRAIN, HELD_OUT)
    assert loss_of(t) < good + 0.1
    first = next(finding for finding in t.findings if finding.rule == "healed")
    assert (first.evidence["before"], first.evidence["kept"]) == (None, True)


def test_a_loss_that_no_remedy_brings_back_is_an_error_still() -> None:
    t = trainer(lr=1e30, optimizer="sgd", clip_norm=0.0, heal=True, heal_attempts=1)
    with pytest.raises(DivergedError):
        t.fit(TRAIN, HELD_OUT)
    assert [finding.rule for finding in t.findings if finding.rule == "not-healed"] == ["not-healed"]


def test_a_healthy_run_is_left_alone() -> None:
    plain, healed = trainer(lr=1e-2, schedule="cosine"), trainer(lr=1e-2, schedule="cosine", heal=True)
    before = plain.fit(TRAIN, HELD_OUT)
    after = healed.fit(TRAIN, HELD_OUT)
    assert same(state(plain), state(healed))
    assert [record.validation for record in before] == [record.validation for record in after]
    assert not [finding for finding in healed.findings if finding.rule in ("healed", "not-healed")]


def test_after_a_remedy_that_does_not_help_the_weights_are_those_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, healed = trainer(lr=1e-2), trainer(lr=1e-2, heal=True)
    before = plain.fit(TRAIN, HELD_OUT)
    monkeypatch.setattr(healing, "_proposals", lambda training: [healing.Proposal(finding("one"), {RATE: 1e-7})])
    after = healed.fit(TRAIN, HELD_OUT)
    assert [one.evidence["kept"] for one in healed.findings if one.rule == "not-healed"] == [False]
    assert same(state(plain), state(healed))
    assert [record.validation for record in before] == [record.validation for record in after]
    assert healed.recipe == plain.recipe


# What decides, and what is kept.


def finding(rule: str, **changes: object) -> Finding:
    return Finding(rule=rule, severity="warning", title=rule, remedy=Remedy("change it", dict(changes)))


def rehearsed(outcomes: dict[float, tuple[Score, list[Finding]]], seen: list[float]):
    """Trainings whose outcomes, by learning rate, are given."""

    def train(recipe: Recipe) -> Training:
        rate = recipe.training.optimizer.lr
        seen.append(rate)
        score, findings = outcomes[rate]
        return Training(recipe=recipe, weights={"rate": torch.tensor(rate)}, score=score, findings=findings)

    return train


def healed(outcomes: dict[float, tuple[Score, list[Finding]]], **settings) -> tuple[Training, list[float]]:
    recipe = Recipe(training=TrainingRecipe(heal=True, **settings)).with_settings({RATE: 1.0})
    seen: list[float] = []
    remedied = remedied_by(lambda key: key.startswith("training."))
    records = Records(None, resume=False)
    return heal(recipe, rehearsed(outcomes, seen), records, remedied=remedied, monitor="loss"), seen


def spread(value: float, by: float = 0.001) -> Score:
    return Score(value, [value + by * (-1) ** part for part in range(8)])


def test_a_remedy_that_does_not_help_is_not_kept() -> None:
    worse = {1.0: (spread(0.5), [finding("one", **{RATE: 2.0})]), 2.0: (spread(0.6), [])}
    kept, seen = healed(worse)
    assert (kept.weights["rate"].item(), seen) == (1.0, [1.0, 2.0])
    assert [one.rule for one in kept.findings] == ["one", "not-healed"]
    assert kept.findings[0].severity == "warning"
    assert kept.findings[1].evidence["kept"] is False


def test_a_difference_that_may_be_chance_is_not_kept() -> None:
    # the jackknife by hand: differences are 0.01 ± 0.01, so the error of their mean is sqrt(7/8 * 8 * 0.01²) = 0.0265
    chance = {1.0: (Score(0.5, [0.5] * 8), [finding("one", **{RATE: 2.0})]), 2.0: (spread(0.49, 0.01), [])}
    kept, _ = healed(chance)
    assert kept.recipe.training.optimizer.lr == 1.0
    assert kept.findings[1].evidence["standard_error"] == pytest.approx(math.sqrt(7) * 0.01)
    certain = {**chance, 2.0: (spread(0.45, 0.01), [])}
    assert healed(certain, heal_attempts=1)[0].recipe.training.optimizer.lr == 2.0


def test_causes_come_first_and_attempts_end() -> None:
    findings = [finding("cause", **{RATE: 2.0}), finding("effect", **{RATE: 3.0}), finding("words only")]
    kept, seen = healed({1.0: (spread(0.5), findings), 2.0: (spread(0.6), []), 3.0: (spread(0.6), [])})
    assert seen == [1.0, 2.0, 3.0]
    kept, seen = healed({1.0: (spread(0.5), findings), 2.0: (spread(0.6), [])}, heal_attempts=1)
    assert seen == [1.0, 2.0]
    assert [one.evidence["answers"] for one in kept.findings if one.rule == "not-healed"] == ["cause"]


def test_what_the_better_training_shows_is_answered_next() -> None:
    outcomes = {
        1.0: (spread(0.5), [finding("first", **{RATE: 2.0})]),
        2.0: (spread(0.4), [finding("second", **{RATE: 4.0})]),
        4.0: (spread(0.2), []),
    }
    kept, seen = healed(outcomes, heal_attempts=2)
    assert seen == [1.0, 2.0, 4.0]
    assert kept.recipe.training.optimizer.lr == 4.0
    assert [one.title for one in kept.findings if one.rule in ("first", "second")] == [
        "mended: first",
        "mended: second",
    ]


def test_a_rate_that_helped_is_taken_further_as_long_as_it_helps() -> None:
    outcomes = {1.0: (spread(0.5), [finding("first", **{RATE: 0.1})]), 0.1: (spread(0.4), []), 0.03: (spread(0.3), [])}
    kept, seen = healed({**outcomes, 0.01: (spread(0.35), [])})
    assert seen == [1.0, 0.1, 0.03, 0.01]
    assert kept.recipe.training.optimizer.lr == 0.03


def after(changes: dict[str, object], epochs: int) -> Training:
    history = History(planned=epochs)
    for epoch in range(epochs):
        history.add(EpochRecord(epoch, {}, {"loss": 1.0}, 0.0, 0.0, 0.0), "loss", maximize=False)
    return Training(recipe=Recipe().with_settings(changes), history=history)


@pytest.mark.parametrize(
    ("changes", "epochs", "further"),
    [
        ({RATE: 0.1}, 1, [0.3, 1.0]),
        ({RATE: 1e-5}, 1, [3e-6, 1e-6]),
        ({"training.epochs": 6}, 6, [18, 60]),
        ({"training.epochs": 6}, 5, []),  # patience ended it
        ({"network.options.hidden_sizes": [8, 8]}, 1, [[24, 24], [80, 80]]),
        ({"training.l1": 0.0, "training.l2": 0.0}, 1, []),
        ({"training.clip_norm": 0.1}, 1, []),
    ],
)
def test_what_is_taken_further(changes: dict[str, object], epochs: int, further: list[object]) -> None:
    proposal = healing.Proposal(finding("one", **changes), changes)
    proposals = healing._further(proposal, Recipe(), after(changes, epochs))
    assert [next(iter(one.changes.values())) for one in proposals] == further
    assert all(one.changes.keys() == changes.keys() for one in proposals)


def test_stopping_earlier_is_no_remedy_where_the_best_epoch_is_kept() -> None:
    outcomes = {1.0: (spread(0.5), [finding("overfit", **{"training.patience": 3})])}
    assert healed(outcomes, patience=16)[1] == [1.0]
    assert healed(outcomes, patience=0)[1] == [1.0, 1.0]


# Kills


class Stop:
    """Presses Ctrl-C when so many steps are done."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self, record: object) -> None:
        if isinstance(record, StepRecord):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def told(t: Trainer) -> list[dict[str, object]]:
    return [one.to_json() for one in t.findings]


def test_interrupted_at_any_time_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    settings = {"lr": 30.0, "heal": True, "epochs": 4, "heal_attempts": 2}
    alone = trainer(**settings)
    history = alone.fit(TRAIN, HELD_OUT)
    for steps in (3, 35, 55, 100):
        folder = tmp_path / str(steps)
        with pytest.raises(KeyboardInterrupt):
            trainer(**settings, checkpoints=folder, onlookers=[Stop(steps)]).fit(TRAIN, HELD_OUT)
        t = trainer(**settings, checkpoints=folder)
        with torch.no_grad():
            t.network[0].weight.zero_()  # the start is what it was
        again = t.fit(TRAIN, HELD_OUT, resume=True)
        assert same(state(alone), state(t)), steps
        assert json.dumps(told(t)) == json.dumps(told(alone)), steps
        assert [record.validation for record in again] == [record.validation for record in history]
        assert t.recipe == alone.recipe


def test_trainings_that_ended_are_not_repeated(tmp_path: Path) -> None:
    settings = {"lr": 30.0, "heal": True, "epochs": 4, "heal_attempts": 2, "checkpoints": tmp_path}
    first = trainer(**settings)
    first.fit(TRAIN, HELD_OUT)
    steps: list[object] = []
    again = trainer(**settings, onlookers=[steps.append])
    again.fit(TRAIN, HELD_OUT, resume=True)
    assert steps == []
    assert same(state(first), state(again))
    with pytest.raises(RecipeError, match=r"started with other settings: training\.epochs was 4, is 5"):
        trainer(**{**settings, "epochs": 5}).fit(TRAIN, HELD_OUT, resume=True)
    trainer(**{**settings, "epochs": 5}, onlookers=[steps.append]).fit(TRAIN, HELD_OUT)
    assert steps


def test_ctrl_c_says_that_the_training_begins_anew(tmp_path: Path) -> None:
    t = trainer(heal=True, checkpoints=tmp_path, onlookers=[lambda record: signal.raise_signal(signal.SIGINT)])
    with pytest.raises(InterruptedRunError, match="in training 1 of a healing run; resumed, it begins anew"):
        t.fit(TRAIN, HELD_OUT)
    assert t.recipe.heal  # fit(..., resume=True) of this very trainer heals on


def test_what_stops_the_first_training_is_no_outcome_to_be_read_again(tmp_path: Path) -> None:
    def fails(recipe: Recipe) -> Training:
        return Training(recipe=recipe, error=UserError("memory ran out"))

    def works(recipe: Recipe) -> Training:
        return Training(recipe=recipe, score=Score(0.5))

    def run(train: Callable[[Recipe], Training]) -> Training:
        records = Records(tmp_path, resume=True)
        healing.begin(Recipe(), {}, records)
        return heal(Recipe(), train, records, remedied=remedied_by(lambda key: True), monitor="loss")

    with pytest.raises(UserError, match="memory ran out"):
        run(fails)
    done = run(works)
    assert (done.score.value, done.findings) == (0.5, [])


# Where it cannot be


def test_what_cannot_be_healed_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"needs validation rows .*validation=\(inputs, target\)"):
        trainer(heal=True).fit(TRAIN)
    module = network()
    with pytest.raises(RecipeError, match="an optimizer that is built already"):
        trainer(heal=True, optimizer=torch.optim.SGD(module.parameters(), lr=0.1)).fit(TRAIN, HELD_OUT)
    player = Player("one", module, lambda batch: module(batch.inputs[0]).mean(), torch.optim.SGD(module.parameters()))
    with pytest.raises(RecipeError, match="players"):
        Trainer(players=[player], heal=True, progress=False).fit(TRAIN, HELD_OUT)
    with pytest.raises(RecipeError, match="does not look"):
        trainer(heal=True, watch=False)
    with pytest.raises(RecipeError, match="does not see compiled steps"):
        trainer(heal=True, compile=True)


def test_what_is_the_users_own_is_not_changed() -> None:
    own = {"optimizer": lambda module: torch.optim.Adam(module.parameters(), lr=30.0)}
    t = trainer(heal=True, **own)
    t.fit(TRAIN, HELD_OUT)
    assert "lr_too_high" in [one.rule for one in t.findings]
    changed = {key for one in t.findings for key in one.evidence.get("changes", {})}
    assert RATE not in changed


def test_a_monitored_metric_decides() -> None:
    def accuracy(outputs: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
        return {"accuracy": (outputs.argmax(1) == target).float().mean().item()}

    held_out = Batches((HELD_OUT[0],), HELD_OUT[1], batch_size=50)
    t = trainer(heal=True, lr=1e-6, metrics=accuracy, monitor="accuracy", maximize=True)
    t.fit(TRAIN, held_out)
    first = next(one for one in t.findings if one.rule == "healed")
    assert first.evidence["monitor"] == "accuracy"
    assert first.evidence["after"] > first.evidence["before"] + 0.2
    assert accuracy(t.predict(HELD_OUT[0]), HELD_OUT[1])["accuracy"] >= first.evidence["after"]
