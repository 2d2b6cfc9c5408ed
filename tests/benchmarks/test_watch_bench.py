"""The benchmark of the watch: its cases are what they say they are, and it counts right."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.watch import __main__ as command
from benchmarks.watch import data, measure, programs
from benchmarks.watch.cases import FAULTY, HEALTHY
from benchmarks.watch.cases.case import RULES
from benchmarks.watch.generative import RING, covered
from benchmarks.watch.measure import Figures, Listener, Measured, Said, Share, confusion, harm, step_of, wilson
from benchmarks.watch.overhead import overhead, workloads
from benchmarks.watch.report import report
from scipy.stats import binomtest


def measured(
    name: str = "case",
    kind: str = "faulty",
    *said: Said,
    causes: tuple[str, ...] = (),
    metric: float = 0.9,
    part: str = "tune",
) -> Measured:
    return Measured(
        **{"id": name, "kind": kind, "part": part, "source": "NEW", "causes": causes, "floor": 0.8, "seed": 0},
        **{"metric": metric, "seconds": 1.0, "said": said},
    )


# The cases.


def test_ids_are_unique() -> None:
    ids = Counter(job.id for job in command.jobs())
    assert [name for name, count in ids.items() if count > 1] == []


def test_every_true_cause_is_a_rule_and_every_rule_is_a_true_cause() -> None:
    assert {cause for case in FAULTY for cause in case.causes} <= set(RULES)
    assert {case.causes[0] for case in FAULTY} | {cause for case in FAULTY for cause in case.causes} >= set(RULES)


def test_there_are_enough_cases() -> None:
    assert sum(not case.harmless for case in FAULTY) >= 90
    assert len(HEALTHY) >= 110


def test_parts_share_no_family_and_are_balanced() -> None:
    families = {case.family.name: case.family.part for case in [*FAULTY, *HEALTHY]}
    assert set(families.values()) == {"tune", "report"}
    assert all(case.family.part == families[case.family.name] for case in [*FAULTY, *HEALTHY])
    for cases in (FAULTY, HEALTHY):
        tune = sum(case.family.part == "tune" for case in cases)
        assert 0.4 <= tune / len(cases) <= 0.6


def test_a_twin_that_several_share_is_run_once() -> None:
    twins = [job for job in command.jobs() if job.kind in {"fixed", "flawed"}]
    assert len({id(job.program) for job in twins}) == len(twins) == len({id(case.fixed) for case in FAULTY})


@pytest.mark.parametrize(
    "name",
    ["TDC-regrNN-inapp_act", "AT-Circle-9-tiny-relu", "NEW-mlp-zero_grad-missing", "SO-table-no-hidden-activation"],
)
def test_a_fault_costs_what_its_twin_reaches(name: str) -> None:
    case = next(case for case in FAULTY if case.id == name)
    faulty, fixed = (measure.run(program, 0, is_watched=False) for program in (case.faulty, case.fixed))
    assert fixed.metric >= case.floor
    assert faulty.metric < fixed.metric - measure.HARM


@pytest.mark.parametrize("name", ["H-flat-digits-accumulate-4", "H-table-weighted-classes", "H-regression-waves-relu"])
def test_a_healthy_program_learns(name: str) -> None:
    case = next(case for case in HEALTHY if case.id == name)
    assert measure.run(case.program, 0, is_watched=False).metric >= case.floor


def test_a_program_gives_the_same_twice() -> None:
    program = next(case.program for case in HEALTHY if case.id == "H-table-wine")
    first, second = (measure.run(program, 3, is_watched=False).metric for _ in range(2))
    assert first == second


# Data.


def test_rows_held_out_are_not_trained_on() -> None:
    for source in (data.digits, data.textures, data.table, data.machines, data.adding, data.text):
        rows = source(0)
        train = {tuple(row.flatten().tolist()) for row in rows.x}
        same = sum(tuple(row.flatten().tolist()) in train for row in rows.held_x)
        assert same <= (len(rows.held_x) // 10 if source is data.text else 0)  # a small grammar repeats itself


def test_the_adding_problem_adds_the_marked_numbers() -> None:
    rows = data.adding(0, length=6, rows=5)
    for x, y in zip(rows.x, rows.y, strict=True):
        assert x[:, 1].sum() == 2
        assert float(y) == pytest.approx(sum(float(value) for value, mark in x if mark), abs=1e-6)


def test_mistakes_in_data_change_training_rows_only() -> None:
    clean = data.flat_digits(0)
    for change in (data.shuffled_labels, data.noisy_labels(0.5, 10), data.rare((1,), 5), data.ordered):
        spoilt = data.changed(data.flat_digits, change)(0)
        assert torch.equal(spoilt.held_x, clean.held_x)
        assert torch.equal(spoilt.held_y, clean.held_y)
        assert not (torch.equal(spoilt.x, clean.x) and torch.equal(spoilt.y, clean.y))
    assert int((data.changed(data.flat_digits, data.rare((1,), 5))(0).y == 1).sum()) == 5


def test_a_shuffled_label_belongs_to_another_row() -> None:
    rows, clean = data.changed(data.flat_digits, data.shuffled_labels)(0), data.flat_digits(0)
    assert torch.equal(rows.y, clean.y)
    assert torch.equal(rows.x.sum(1).sort().values, clean.x.sum(1).sort().values)


# Metrics.


def test_metrics_by_hand() -> None:
    outputs, y = torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0, 1, 1])
    assert programs.accuracy(outputs, y) == 0.75
    assert programs.balanced_accuracy(outputs[:3], y[:3]) == 0.5
    assert programs.sign_accuracy(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [1.0]])) == 0.5
    truth = torch.tensor([[1.0], [3.0]])
    assert programs.explained(torch.tensor([[1.0], [2.0]]), truth) == 0.5  # an error of 1/2 where the variance is 1
    assert programs.explained(torch.tensor([[2.0], [2.0]]), truth) == 0
    assert covered(RING, RING) == 1
    assert covered(RING[:2].repeat(4, 1), RING) == 0.25


def test_an_outcome_is_a_number_from_minus_one_to_one() -> None:
    assert [programs.Outcome(value).metric for value in (float("nan"), -7.0, 0.3, 2.0)] == [-1, -1, 0.3, 1]


# What is counted.


def test_figures_by_hand() -> None:
    alarm = Said("lr_too_high", "warning", "too high", 20)
    several = [
        # Found, right at once; another true alarm, and one that only follows from it.
        measured(
            *(
                "a",
                "faulty",
                alarm,
                Said("dead_relu", "error", "", 30),
                Said("saturation", "warning", "", 40, follows=True),
            ),
            causes=("lr_too_high", "dead_relu"),
        ),
        # Found, the cause second, and at the end only.
        measured("b", "faulty", Said("underfit", "warning", ""), Said("bad_init", "error", ""), causes=("bad_init",)),
        # Not found: what is merely worth knowing is no alarm.
        measured("c", "faulty", Said("overfit", "info", "", 5), causes=("overfit",)),
        measured("d", "healthy"),
        measured("e", "fixed", alarm),
        # Does not learn what it should, and so it is no healthy program.
        measured("f", "healthy", alarm, metric=0.5),
        # Neither faulty nor healthy.
        measured("g", "harmless", alarm, causes=("overfit",)),
    ]
    figures = Figures.of(several)
    assert figures.found == Share(2, 3)
    assert figures.alarmed == Share(1, 2)
    assert figures.first_right == Share(1, 3)
    assert figures.recall == Share(2, 3)
    assert figures.precision == Share(3, 4)
    assert figures.steps == [20]
    assert figures.at_the_end == 1
    assert figures.crashes == 0


def test_the_interval_is_that_of_wilson() -> None:
    for hits, of in ((0, 150), (58, 60), (1, 2)):
        theirs = binomtest(hits, of).proportion_ci(method="wilson")
        assert wilson(hits, of) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_confusion_counts_what_was_named_first() -> None:
    alarm = Said("lr_too_high", "warning", "")
    several = [
        measured("a", "faulty", alarm, causes=("lr_too_high",)),
        measured("b", "faulty", alarm, causes=("bad_init",)),
        measured("c", "faulty", causes=("bad_init",)),
        measured("d", "healthy", alarm),
    ]
    assert confusion(several) == {
        "lr_too_high": Counter(lr_too_high=1),
        "bad_init": Counter({"lr_too_high": 1, "nothing": 1}),
    }


def test_a_fault_that_costs_nothing_is_told() -> None:
    several = [
        measured("a", "faulty", causes=("overfit",), metric=0.9),
        measured("a-fixed", "fixed", metric=0.91),
        measured("b", "faulty", causes=("overfit",), metric=0.5),
    ]
    assert harm(several, {"a": "a-fixed", "b": "a-fixed"}) == [("a", 0.91, 0.9)]


def test_the_step_is_that_of_the_line_else_that_of_the_evidence() -> None:
    lines = ["watch: step 3: warning bad_init: small", "watch: step 40: error lr_too_high: rises", "watch: the end"]
    assert step_of("lr_too_high", {"step": 7}, lines) == 40
    assert step_of("dead_relu", {"step": 7}, lines) == 7
    assert step_of("dead_relu", {}, lines) is None


def test_what_a_watch_says_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = SimpleNamespace(
        rule="dead_relu", severity="warning", title="units are silent", evidence={"follows_from": "lr_too_high"}
    )

    class Watch:
        findings = (finding,)

        def __init__(self, model: Any, optimizer: Any, *, say: Any) -> None:
            self.say = say

        def __enter__(self) -> None:
            self.say("watch: step 12: warning dead_relu: units are silent")

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("sounding.watching.watch", Watch)

    def program(watched: Any, seed: int) -> programs.Outcome:
        with watched(None, None):
            return programs.Outcome(0.5)

    result = measure.run(program, 0)
    assert result.metric == 0.5
    assert result.said == (Said("dead_relu", "warning", "units are silent", 12, follows=True),)


def test_an_error_under_the_watch_is_noted_and_an_own_one_is_raised() -> None:
    def program(watched: Any, seed: int) -> programs.Outcome:
        raise ValueError("a hook went wrong")

    assert "ValueError: a hook went wrong" in measure.run(program, 0).crash
    with pytest.raises(ValueError, match="a hook went wrong"):
        measure.run(program, 0, is_watched=False)


def test_a_report_has_the_figures_of_each_part_and_of_both() -> None:
    text = report(
        [
            measured("a", "faulty", Said("overfit", "warning", "memorised", 5), causes=("overfit",)),
            measured("b", "faulty", causes=("leak",), part="report"),
            measured("c", "healthy", Said("leak", "error", "told"), part="report"),
        ]
    )
    found = next(line for line in text.splitlines() if line.startswith("| faulty programs found"))
    assert [cell.split(" ")[1] for cell in found.split("|")[4:7]] == ["1.00", "0.00", "0.50"]
    assert "Missed (1):\n  b [leak] 0.900: nothing" in text
    assert "False alarms (1):\n  c 0.900: error leak: told" in text


def test_measured_programs_are_written_down_and_read_again(tmp_path: Path) -> None:
    one = measured("a", "faulty", Said("overfit", "warning", "memorised", 5), causes=("overfit", "leak"))
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(one.to_json()) + "\n")
    assert command.read(path) == {("a", 0): one}


def test_what_watching_a_workload_costs_is_told_by_name(monkeypatch):
    spent = iter([1.0, 1.0, 1.0, 1.03])  # a turn that fills caches, then plain before watched
    monkeypatch.setattr("benchmarks.watch.overhead.cpu_time", lambda program, is_watched: next(spent))
    told = overhead(workloads(None, ["table-small"], epochs_scale=0.02), rounds=1)
    assert "table-small" in told
    assert told.endswith("median +3.0%, worst +3.0%")


def test_a_workload_is_trained_under_the_watch():
    listener = Listener()
    workloads(None, ["table-small"], epochs_scale=0.02)["table-small"](listener, 0)
    seen = listener.watch.players["model"]
    assert seen.done == 188
    assert seen.losses[-1] < 0.9 * seen.losses[0]
