"""The benchmark of healing: it counts right, and its programs are what they say they are."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from benchmarks.healing import FAULTS, PROGRAMS, Measured, Program, Ran, explained, measure, report, run
from benchmarks.watch.data import Data
from benchmarks.watch.networks import dense
from scipy.stats import entropy
from sklearn.metrics import log_loss, r2_score

from benchmarks import healing

GENERATOR = torch.Generator().manual_seed(0)


def points(seed: int) -> Data:
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(seed))
    y = (x.sum(1) > 0).long()
    return Data(x[:200], y[:200], x[200:], y[200:])


def ran(metric: float, weights: str = "a", seconds: float = 1.0, *kept: str) -> Ran:
    return Ran(metric, weights, seconds, kept, len(kept))


def one(name: str, faulty: float, healed: float, fixed: float) -> Measured:
    return Measured(name, 0, ran(faulty), ran(healed, "b", 4.0, "lr=0.1 (lr_too_high)"), ran(fixed, "c"))


def test_closed_is_the_share_of_the_gap_to_the_twin() -> None:
    assert one("", 0.2, 0.8, 1.0).closed == pytest.approx(0.75)
    assert one("", 0.5, 0.4, 0.9).closed == pytest.approx(-0.25)


def test_a_fault_whose_twin_is_hardly_better_is_harmless() -> None:
    assert [one("", 0.50, 0.9, fixed).kind for fixed in (0.54, 0.56)] == ["harmless", "faulty"]
    assert math.isnan(one("", 0.50, 0.9, 0.54).closed)
    assert Measured("", 0, ran(0.9), ran(0.9)).kind == "healthy"


def test_the_figures_by_hand() -> None:
    changed, same = Measured("moons", 0, ran(0.9), ran(0.9, "b")), Measured("digits", 0, ran(0.9), ran(0.9))
    text = report(
        [
            *(one("mended", 0.0, 0.95, 1.0), one("half", 0.0, 0.85, 1.0), one("worse", 0.2, 0.1, 1.0)),
            *(one("nothing", 0.9, 0.89, 0.9), changed, same),
        ]
    )
    assert "95 % of the gap: 0.33 [0.06; 0.79] (1 of 3)" in text
    assert "four fifths of the gap: 0.67 [0.21; 0.94] (2 of 3)" in text
    assert "worse than before: 0.50 [0.15; 0.85] (2 of 4); worse 0; nothing 0" in text
    assert "the same bits: 0.50 [0.09; 0.91] (1 of 2); not moons 0" in text
    assert "median: 4.0" in text
    assert "| half | 0 | 0.000 | 0.850 | 1.000 | 85% | 4.0 | lr=0.1 (lr_too_high) |" in text
    assert "| nothing | 0 | 0.900 | 0.890 | 0.900 | harmless |" in text


def test_explained_is_what_scikit_learn_and_scipy_say() -> None:
    held = torch.randn(50, 1, generator=GENERATOR)
    answers = held + 0.3 * torch.randn(50, 1, generator=GENERATOR)
    rows = Data(held, held, held, held)  # what ignores the inputs knows the mean of these very rows, as R² has it
    loss = (answers - held).square().mean().item()
    assert explained(loss, rows) == pytest.approx(r2_score(held, answers), abs=1e-5)

    labels = torch.tensor([0] * 30 + [1] * 10)
    rows = Data(labels, labels, labels, labels)
    loss = log_loss(labels, [[0.8, 0.2]] * 30 + [[0.3, 0.7]] * 10)
    assert explained(loss, rows) == pytest.approx(1 - loss / entropy([0.75, 0.25]), abs=1e-5)
    assert (explained(math.inf, rows), explained(math.nan, rows), explained(1e6, rows)) == (0, 0, 0)


def test_one_fault_is_measured_from_end_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    settings = {"lr": 0.03, "epochs": 8, "batch_size": 20}
    monkeypatch.setattr(
        healing, "PROGRAMS", {"points": Program(data=points, network=lambda: dense(2, 8, 2), settings=settings)}
    )
    monkeypatch.setattr(healing, "FAULTS", {"slow": ("points", {"lr": 1e-6})})
    slow, healthy = measure("slow", 0), measure("points", 0)
    assert (slow.kind, healthy.kind) == ("faulty", "healthy")
    assert slow.closed > 0.8
    assert any("lr_too_low" in kept for kept in slow.healed.kept)
    assert healing.is_untouched(healthy)
    assert not healing.is_untouched(slow)
    assert Measured.from_json(json.loads(json.dumps(asdict(slow)))).closed == slow.closed

    lines = tmp_path / "lines"
    lines.write_text(json.dumps(asdict(slow)) + "\n")
    monkeypatch.setattr(sys, "argv", ["healing", "--seeds", "0", "--json", str(lines)])
    measured: list[str] = []
    monkeypatch.setattr(healing, "measure", lambda name, seed: measured.append(name) or healthy)
    healing.main()
    assert measured == ["points"]  # the other is there already
    assert len(lines.read_text().splitlines()) == 2
    assert "(1 of 1)" in capsys.readouterr().out


def test_a_training_that_diverges_has_learned_nothing() -> None:
    program = Program(data=points, network=lambda: dense(2, 8, 2), settings={"epochs": 2, "lr": math.inf})
    assert run(program, 0, {"optimizer": "sgd", "clip_norm": 0.0, "lr": 1e38}, heal=False).metric == 0


def test_a_network_of_fit_is_measured_as_well() -> None:
    program, changes = healing.fitted(points, hidden_sizes=[8]), {"training.epochs": 5, "training.optimizer.lr": 0.03}
    measured = run(program, 0, changes, heal=False)
    assert 0.5 < measured.metric < 1
    assert measured.weights == run(program, 0, changes, heal=False).weights


def test_every_fault_changes_a_program_and_names_are_unique() -> None:
    assert len(FAULTS) >= 15
    assert not set(FAULTS) & set(PROGRAMS)
    for program, changes in FAULTS.values():
        assert changes
        assert not changes.items() <= dict(PROGRAMS[program].settings).items()
