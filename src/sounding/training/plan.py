"""How to use this machine for this network: measured on real steps, never guessed.

Candidate ways (threads, arithmetic, memory layout, preparing batches ahead, the optimizer's implementation,
compilation) rehearse the real training step in turns, and those that fall behind leave. The fastest is taken if its
losses in a short race are those of the plain float32 way, up to noise.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pooch

from sounding.errors import DivergedError
from sounding.recipe import TrainingRecipe

SHARE = 0.05
"""Fraction of the expected run that measuring may take."""
GAIN = 1.03
"""How many times faster than the plain way a way must be: less is noise."""
BEHIND = 1.25
"""A way this many times slower than the fastest leaves the race."""
WARMING = 2
"""Steps that choose kernels and fill caches, and are not counted; one in runs too short for more."""
FEW = 4
"""Where there is time for no more steps than this, single steps have to do: of one way as cold as of the other."""
BUSY = 0.8
"""Below this share of its threads' time in which a step computes, other programs hold it up."""
QUICK = 0.02
"""Seconds below which a step is small: its number of threads may matter more than anything else."""
HOPELESS = 3.0
"""A number of threads this many times slower than another is tried with nothing else."""
ALIKE = 1.5
"""Figures that are kept count as long as the plain way is within this factor of its own."""
RACE = 24
"""Steps in which losses are compared, where the run is long enough."""
TOLERANCE = 0.01
"""Fraction of the loss by which it may be higher whatever the noise."""
COMPILING = 15.0
"""Seconds that compilation is expected to take before it was ever tried."""
KEPT_DAYS = 30.0
"""Figures older than this are measured anew: drivers and neighbours change."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to use the machine; each field is the field of the same name in the recipe."""

    precision: str = "float32"
    float32_matmul: str = "highest"
    attention: str = "fused"
    channels_last: bool = False
    threads: int = 0
    workers: int = 0
    compile: bool = False
    cuda_graphs: bool = False
    implementation: str = "auto"
    """Of the optimizer."""

    @classmethod
    def of(cls, recipe: TrainingRecipe) -> Way:
        """The way that a recipe gives."""
        own = {name: getattr(recipe, name) for name in cls.__slots__ if name != "implementation"}
        return cls(**own, implementation=recipe.optimizer.implementation)

    def applied(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """A copy of the recipe that goes this way."""
        own = {name: value for name, value in asdict(self).items() if name != "implementation"}
        optimizer = replace(recipe.optimizer, implementation=self.implementation)  # type: ignore[arg-type]
        return replace(recipe, optimizer=optimizer, plan="given", **own)

    @property
    def settings(self) -> dict[str, Any]:
        """As recipe keys: `training.precision`, ..., `training.optimizer.implementation`."""
        own = {f"training.{name}": value for name, value in asdict(self).items() if name != "implementation"}
        return {**own, "training.optimizer.implementation": self.implementation, "training.plan": "given"}

    @property
    def is_exact(self) -> bool:
        """Whether it rounds like plain float32, but for the order of sums."""
        return (self.precision, self.float32_matmul) == ("float32", "highest")

    def __str__(self) -> str:
        words = [self.precision]
        if self.precision == "float32" and self.float32_matmul != "highest":
            words.append(f"{self.float32_matmul} matmul precision")
        words += [f"{self.attention} attention"] * (self.attention != "fused")
        words += ["channels last"] * self.channels_last + ["compiled"] * self.compile
        words += ["CUDA graphs"] * self.cuda_graphs
        words += [f"{self.threads} thread" + "s" * (self.threads > 1)] * bool(self.threads)
        words += [f"{self.workers} thread{'s' * (self.workers > 1)} ahead"] * bool(self.workers)
        words += [f"{self.implementation} optimizer"] * (self.implementation != "auto")
        return ", ".join(words)


class Rehearsal(NamedTuple):
    """Some steps of a way, from the same weights and on the same batches as those of every other."""

    seconds: list[float]
    """Of each step."""
    losses: list[float]
    busy: float = 1.0
    """The share of its threads' time in which it computed."""


Rehearse = Callable[[Way, int, float], Rehearsal]
"""Does so many steps of a way, fewer if they take more than some seconds, and leaves everything as it was."""


@dataclass(slots=True)
class Figures:
    """What is known of a way."""

    seconds: float = math.inf
    """For a step: the least of several means. Medians would not see what stalls now and then, as threads do that wait
    for each other on a busy machine."""
    first: float = 0.0
    """For the first step, compilation included."""
    losses: list[float] = field(default_factory=list)
    """Of its longest rehearsal."""

    def add(self, rehearsal: Rehearsal) -> None:
        """Take another rehearsal in."""
        self.first = self.first or rehearsal.seconds[0]
        counted = rehearsal.seconds[WARMING:] or rehearsal.seconds[1:] or rehearsal.seconds
        self.seconds = min(self.seconds, statistics.fmean(counted))
        self.losses = max(self.losses, rehearsal.losses, key=len)


Table = dict[Way, Figures]


@dataclass(frozen=True, slots=True)
class Plan:
    """The way that was taken, and the table it was chosen from."""

    way: Way
    table: Table
    plain: Way
    seconds: float
    """Spent on measuring."""
    notes: tuple[str, ...] = ()
    """What spoke against a faster way, a line each."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table as plain JSON values, the fastest way first."""
        working = [way for way in self.table if math.isfinite(self.table[way].seconds)]
        order = sorted(working, key=lambda way: self.table[way].seconds)
        return [{**asdict(way), "milliseconds": 1000 * self.table[way].seconds} for way in order]

    def __str__(self) -> str:
        """In words: what was taken, and how it compares with the plain float32 way."""
        if self.way not in self.table:
            return "; ".join([str(self.way), *self.notes])
        words = f"{self.way}, {1000 * self.table[self.way].seconds:.3g} ms a step"
        if self.way != self.plain:
            words += f", against {1000 * self.table[self.plain].seconds:.3g} ms the plain way"
        return "; ".join([words, *self.notes])


def candidates(
    plain: Way, *, precisions: Sequence[str], threads: Sequence[int], pictures: bool, attends: bool = False
) -> list[Way]:
    """Every pairing of threads, arithmetic and memory layout: the plain way, then those that are mostly the fastest.

    attends: whether the network computes attention, of which PyTorch's own is slow on a CPU in reduced precision.
    """
    reduced = [{"precision": precision} for precision in precisions if precision != "float32"]
    attending = [{**one, "attention": "plain"} for one in reduced if attends]
    arithmetic = [*attending, *reduced, {"float32_matmul": "medium"}, {}]
    layouts = (True, False) if pictures else (False,)
    pairs = itertools.product(dict.fromkeys((plain.threads, *threads)), layouts, arithmetic)
    ways = [replace(plain, threads=count, channels_last=last, **one) for count, last, one in pairs]
    return [plain, *(way for way in ways if way != plain)]


def choose_plan(
    rehearse: Rehearse,
    ways: Sequence[Way],
    *,
    steps: int,
    changes: Sequence[dict[str, Any]] = (),
    compiling: bool = False,
    seconds: float = 5.0,
    known: Table | None = None,
) -> Plan:
    """Measure ways to train in turns, and take the fastest whose losses are those of the plain way.

    rehearse:   does some steps of a way. One that fails is left out, with a note; the plain way's error is raised.
    ways:       what to try; the first is the plain way, the rest in the order in which they promise most.
    steps:      of the whole run: after two steps the plain way, measuring takes a twentieth of their time at most; the
                shorter that is, the fewer ways it tries in fewer steps.
    changes:    fields to try, one after the other, on the fastest of the ways.
    compiling:  whether to try compilation on the fastest, where the run is long enough to pay for it.
    seconds:    the most that measuring takes, compilation aside.
    known:      figures of an earlier run of this network on this machine; where the plain way still takes about as
                long as it did, what is in them is not measured again.
    """
    began, notes = time.perf_counter(), list[str]()
    plain, table = ways[0], dict(known or {})
    first, now = rehearse(plain, WARMING if SHARE * steps > FEW else 1, math.inf), Figures()
    now.add(first)
    if plain not in table or not 1 / ALIKE < now.seconds / table[plain].seconds < ALIKE:
        table = {plain: now}  # the machine is busier than it was, or less so
    end = time.perf_counter() + min(seconds, SHARE * steps * now.seconds)

    def measure(way: Way, count: int) -> None:
        """Some steps, fewer of them if they are slower by far than the fastest so far."""
        best = min(figures.seconds for figures in table.values())
        limit = math.inf if way.compile else HOPELESS * count * best
        figures = table.setdefault(way, Figures())
        try:
            figures.add(rehearse(way, count, limit))
        except (RuntimeError, MemoryError, DivergedError) as error:
            # The plain way works: a layout that a view refuses, a compiler that is not there, memory that does not
            # suffice for it rule out this way alone.
            if way == plain:
                raise
            figures.seconds = math.inf
            notes.append(f"{way} does not work here: {(str(error).splitlines() or [type(error).__name__])[0][:200]}")

    if first.busy < BUSY or now.seconds < QUICK:
        ways = _threads_first(ways, table, measure)
    fastest = _race(ways, table, measure, end)
    for change in changes:
        changed = _race([fastest, replace(fastest, **change)], table, measure, end)
        if table[changed].seconds * GAIN < table[fastest].seconds:
            fastest = changed
    if compiling:
        fastest = _compiled(fastest, table, measure, steps)

    def rank(way: Way) -> float:
        departures = (not way.is_exact) + (way.implementation != plain.implementation)
        return table[way].seconds * GAIN**departures

    exact = min((way for way in table if way.is_exact and not way.compile), key=rank)
    for way in sorted({fastest, *(way for way in table if not way.compile)}, key=rank):
        if way == plain or table[way].seconds * GAIN > table[plain].seconds:
            break
        if way.is_exact:
            return Plan(way, table, plain, time.perf_counter() - began, tuple(notes))
        for one in (way, exact):
            left = int((end - time.perf_counter()) / (table[way].seconds + table[exact].seconds))
            if len(table[one].losses) < min(left, RACE):
                measure(one, min(left, RACE))
        if not math.isfinite(table[way].seconds):
            continue
        if not (worse := _worse(table[way].losses, table[exact].losses)):
            return Plan(way, table, plain, time.perf_counter() - began, tuple(notes))
        notes.append(f"{way} was faster, but {worse}")
    return Plan(plain, table, plain, time.perf_counter() - began, tuple(notes))


def _threads_first(ways: Sequence[Way], table: Table, measure: Callable[[Way, int], None]) -> list[Way]:
    """The ways with those of the fastest number of threads first, and without those of a hopeless one.

    On a busy machine the wrong number is slower by factors, whatever else is done.
    """
    twins = {way.threads: replace(ways[0], threads=way.threads) for way in ways}
    for twin in twins.values():
        if twin not in table:
            measure(twin, WARMING + 2)
    seconds = {count: table[twin].seconds for count, twin in twins.items()}
    hopeful = [way for way in ways if seconds[way.threads] < HOPELESS * min(seconds.values())]
    return sorted(hopeful, key=lambda way: seconds[way.threads])


def _race(ways: Sequence[Way], table: Table, measure: Callable[[Way, int], None], end: float) -> Way:
    """The fastest of some ways; while there is time they go in turns, each round longer, and the slow ones leave."""
    running = list(ways) if any(way not in table for way in ways) else []
    a_step = min((table[way].seconds for way in ways if way in table), default=0.0)
    each = (end - time.perf_counter()) / max(len(running) * a_step, 1e-9)  # steps for which there is time
    count = WARMING + 2 if each > WARMING + 2 else 2 if each * len(running) > FEW else 1
    new = [way for way in running if way not in table]
    while len(running) > 1 and count <= RACE:
        for way in new or running:
            if time.perf_counter() + count * a_step < end:
                measure(way, count)
        new = []
        running = [way for way in running if way in table]
        best = min((table[way].seconds for way in running), default=0.0)
        running = [way for way in running if table[way].seconds < BEHIND * best]
        count *= 2
    return min((way for way in ways if way in table), key=lambda way: table[way].seconds, default=ways[0])


def _compiled(fastest: Way, table: Table, measure: Callable[[Way, int], None], steps: int) -> Way:
    """The same way compiled, if that pays within the run; tried only where its cost is a small part of the run."""
    compiled = replace(fastest, compile=True)
    cost = table[compiled].first if compiled in table else COMPILING
    if compiled not in table and cost < SHARE * steps * table[fastest].seconds:
        measure(compiled, WARMING + 4)
        cost = 0.0  # spent by now, and this process need not compile again
    if compiled in table and cost + steps * table[compiled].seconds * GAIN < steps * table[fastest].seconds:
        return compiled
    return fastest


def _worse(losses: Sequence[float], plain: Sequence[float]) -> str:
    """In what way losses are worse than the plain way's on the same batches; empty if they are not, up to noise.

    The noise is that of the mean of so many batches: a network does not learn worse by less than the draw of its
    batches makes of it.
    """
    pairs = list(zip(losses, plain, strict=False))
    if not all(math.isfinite(loss) for loss in losses):
        return "its loss was not finite"
    difference = statistics.fmean(one - other for one, other in pairs)
    noise = statistics.pstdev([other for _, other in pairs]) / math.sqrt(len(pairs))
    if difference > max(2 * noise, TOLERANCE * abs(statistics.fmean(other for _, other in pairs))):
        return f"its loss was higher by {difference:.2g} after {len(pairs)} steps (noise: {noise:.2g})"
    return ""


def key_of(*facts: object) -> str:
    """The name under which figures are kept: everything that they depend on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def read_table(key: str) -> Table:
    """The figures that are kept under a name; empty where there are none, or they are old or unreadable."""
    place = _folder() / f"{key}.json"
    try:
        if time.time() - place.stat().st_mtime > KEPT_DAYS * 86400:
            return {}
        rows = json.loads(place.read_text(encoding="utf-8"))
        return {Way(**row["way"]): Figures(**row["figures"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_table(key: str, table: Table) -> None:
    """Keep figures for the next run; where nothing can be written, it measures again."""
    working = {way: figures for way, figures in table.items() if math.isfinite(figures.seconds)}
    rows = [{"way": asdict(way), "figures": asdict(figures)} for way, figures in working.items()]
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        temporary = _folder() / f".{key}.{os.getpid()}"
        temporary.write_text(json.dumps(rows), encoding="utf-8")
        temporary.replace(_folder() / f"{key}.json")
    except OSError:
        return


def _folder() -> Path:
    return Path(os.environ.get("SOUNDING_CACHE") or pooch.os_cache("sounding")) / "plans"
