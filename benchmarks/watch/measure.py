"""Runs programs under the watch, and counts what it said against what is true."""

from __future__ import annotations

import math
import re
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any, NamedTuple

from benchmarks.watch.programs import Run, unwatched

ALARMS = {"warning", "error"}
HARM = 0.02
"""What a fault has to cost of the metric, lest it counts as harmless."""
MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors of a program under the watch that are noted, and do not end the measurement."""


@dataclass(frozen=True, slots=True)
class Said:
    """A finding, as far as it is counted."""

    rule: str
    severity: str
    title: str
    step: int | None = None
    """The training step at which it was said; none at the end."""
    follows: bool = False
    """Whether it is told as a consequence of another."""

    @property
    def is_alarm(self) -> bool:
        return self.severity in ALARMS


@dataclass(frozen=True, slots=True)
class Measured:
    """One program under the watch."""

    id: str
    kind: str
    """`faulty`, `harmless` (a fault that costs nothing), `healthy`, `fixed` (the healthy twin of a faulty program), or
    `flawed` (a twin with another flaw)."""
    part: str
    source: str
    causes: tuple[str, ...]
    floor: float
    seed: int
    metric: float
    seconds: float
    said: tuple[Said, ...] = field(default=())
    """Findings, the root cause first."""
    crash: str = ""
    """The error with which the program ended under the watch."""

    @property
    def alarms(self) -> tuple[Said, ...]:
        return tuple(one for one in self.said if one.is_alarm)

    @property
    def first(self) -> str:
        """The rule named first; empty where nothing was said."""
        return self.alarms[0].rule if self.alarms else ""

    @property
    def is_right(self) -> bool:
        return self.first in self.causes

    @property
    def steps(self) -> int | None:
        """Steps until the first alarm; none where there was none, or only at the end."""
        return min((one.step for one in self.alarms if one.step is not None), default=None)

    @property
    def is_well(self) -> bool:
        """Whether it learned what a healthy program learns."""
        return self.metric >= self.floor

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Measured:
        said = tuple(Said(**one) for one in values["said"])
        return cls(**{**values, "causes": tuple(values["causes"]), "said": said})


class Listener:
    """Watches a program, and notes what is said when."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.watch: Any = None

    def __call__(self, model: Any, optimizer: Any) -> AbstractContextManager[Any]:
        from sounding.watching import watch

        self.watch = watch(model, optimizer, say=self.lines.append)
        return self.watch

    def said(self) -> tuple[Said, ...]:
        findings = self.watch.findings if self.watch is not None else []
        return tuple(
            Said(
                *(one.rule, one.severity, one.title, step_of(one.rule, one.evidence, self.lines)),
                follows="follows_from" in one.evidence,
            )
            for one in findings
        )


def step_of(rule: str, evidence: dict[str, Any], lines: Iterable[str]) -> int | None:
    """The step at which a rule spoke: that of the line with its name, else that of its evidence."""
    for line in lines:
        if (match := re.search(rf"\bstep (\d+)\b.*\b{re.escape(rule)}\b", line)) is not None:
            return int(match[1])
    step = evidence.get("step")
    return int(step) if isinstance(step, int | float) else None


class Result(NamedTuple):
    metric: float
    seconds: float
    said: tuple[Said, ...]
    crash: str


def run(program: Run, seed: int, *, is_watched: bool = True) -> Result:
    """Run a program; its metric, the seconds it took and what was said."""
    listener, began, crash = Listener(), time.perf_counter(), ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the faults make PyTorch warn, too
        try:
            metric = program(listener if is_watched else unwatched, seed).metric
        except MISTAKES as error:
            if not is_watched:
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            metric, crash = -1.0, f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
    return Result(metric, time.perf_counter() - began, listener.said(), crash)


# What is counted.


class Share(NamedTuple):
    """So many of so many."""

    hits: float
    of: int

    def __str__(self) -> str:
        if not self.of:
            return "- (0 of 0)"
        low, high = wilson(self.hits, self.of)
        return f"{self.hits / self.of:.2f} [{low:.2f}; {high:.2f}] ({self.hits:g} of {self.of})"


def wilson(hits: float, of: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share: Wilson 1927."""
    share = hits / of
    middle = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of the measurement."""

    found: Share
    alarmed: Share
    first_right: Share
    recall: Share
    """Of the true causes, those that any alarm names."""
    precision: Share
    """Of the alarms on faulty programs that are not told as consequences, those that name the true cause."""
    steps: list[int]
    """Of each faulty program that was found: until the first alarm. One said at the end counts no steps here."""
    at_the_end: int
    crashes: int

    @classmethod
    def of(cls, measured: Sequence[Measured]) -> Figures:
        faulty = [one for one in measured if one.kind == "faulty"]
        quiet = [one for one in measured if one.kind in {"healthy", "fixed"} and one.is_well]
        named = [[said for said in one.alarms if not said.follows] for one in faulty]
        right = sum(said.rule in one.causes for one, several in zip(faulty, named, strict=True) for said in several)
        found = [one for one in faulty if one.alarms]
        return cls(
            found=Share(len(found), len(faulty)),
            alarmed=Share(sum(bool(one.alarms) for one in quiet), len(quiet)),
            first_right=Share(sum(one.is_right for one in faulty), len(faulty)),
            recall=Share(sum(any(said.rule in one.causes for said in one.alarms) for one in faulty), len(faulty)),
            precision=Share(right, sum(map(len, named))),
            steps=[steps for one in found if (steps := one.steps) is not None],
            at_the_end=sum(one.steps is None for one in found),
            crashes=sum(bool(one.crash) for one in measured),
        )


def harm(measured: Sequence[Measured], twins: Mapping[str, str]) -> list[tuple[str, float, float]]:
    """Faults that do none: the id, and the mean metric over seeds of the fixed and of the faulty program.

    twins: by the id of a faulty program, that of its fixed twin.
    """
    metrics: dict[str, list[float]] = {}
    for one in measured:
        metrics.setdefault(one.id, []).append(one.metric)
    pairs = [(name, twin) for name, twin in twins.items() if name in metrics and twin in metrics]
    means = [(name, fmean(metrics[twin]), fmean(metrics[name])) for name, twin in pairs]
    return [(name, fixed, faulty) for name, fixed, faulty in means if fixed - faulty < HARM]


def confusion(measured: Sequence[Measured]) -> dict[str, Counter[str]]:
    """By true cause: how often each rule was named first."""
    table: dict[str, Counter[str]] = {}
    for one in measured:
        if one.kind == "faulty":
            table.setdefault(one.causes[0], Counter())[one.first or "nothing"] += 1
    return table


def median_steps(figures: Figures) -> str:
    if not figures.steps:
        return "-"
    return f"{median(figures.steps):g} ({len(figures.steps)} while running, {figures.at_the_end} at the end)"
