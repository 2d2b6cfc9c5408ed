"""From the runs of all contenders to tables, and into `benchmarks/RESULTS.md`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.contenders import BY_HAND, CONTENDERS
from benchmarks.speed.workloads import WORKLOADS

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
OURS = "sounding"

Run = dict[str, Any]
Value = Callable[[Run], float]


def per_epoch(key: str) -> Value:
    return lambda run: float(run[key] / len(run["losses"]))


def settled(run: Run) -> float:
    """The median epoch: without what is spent once, on compiling or measuring."""
    return median(run["epoch_wall"])


class Runs:
    """All runs, by workload and contender."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.all = list(runs)
        self.workloads = [name for name in WORKLOADS if any(run["workload"] == name for run in self.all)]
        self.contenders = [name for name in CONTENDERS if any(run["contender"] == name for run in self.all)]

    def of(self, workload: str, contender: str) -> list[Run]:
        """Those that went well."""
        return [
            run
            for run in self.all
            if (run["workload"], run["contender"]) == (workload, contender) and "error" not in run
        ]

    def reason(self, workload: str, contender: str) -> str:
        """Why there is no number."""
        errors = [run["error"] for run in self.all if (run["workload"], run["contender"]) == (workload, contender)]
        return f"not run: {errors[0]}" if errors else ""

    def median(self, workload: str, contender: str, value: Value) -> float:
        """Over rounds; NaN where nothing was measured."""
        values = [value(run) for run in self.of(workload, contender)]
        return median(values) if values else math.nan

    def best_by_hand(self, workload: str, value: Value) -> str:
        """The loop written by hand with the smallest median, if any was measured."""
        measured = {name: self.median(workload, name, value) for name in BY_HAND}
        measured = {name: seconds for name, seconds in measured.items() if not math.isnan(seconds)}
        return min(measured, key=measured.__getitem__, default="")

    def speed(self, workload: str, contender: str, against: str, value: Value) -> float:
        """How many times faster than another contender: the median over rounds of the ratio within a round."""
        theirs = {run["round"]: value(run) for run in self.of(workload, against)}
        ratios = [theirs[run["round"]] / value(run) for run in self.of(workload, contender) if run["round"] in theirs]
        return median(ratios) if ratios else math.nan

    def over_all(self, contender: str, against: Callable[[str], str], value: Value) -> float:
        """The geometric mean of the speed over the workloads that both were measured on."""
        speeds = [self.speed(workload, contender, against(workload), value) for workload in self.workloads]
        speeds = [speed for speed in speeds if not math.isnan(speed)]
        return math.exp(sum(map(math.log, speeds)) / len(speeds)) if speeds else math.nan


def report(runs: Iterable[Run], facts: dict[str, Any]) -> str:
    """All tables, as Markdown."""
    found = Runs(runs)
    rounds = 1 + max((run["round"] for run in found.all), default=0)
    parts = [
        f"`python -m benchmarks.speed`, {facts['date']}. {facts['machine']}. {versions(found, facts)}. Medians over "
        f"{rounds} rounds, each run in a process of its own, the contenders in turns. AdamW, learning rate 1e-3, no "
        "decay, no clipping, rows in a new order each epoch; peers in float32, as PyTorch's fused AdamW where they "
        "can name it. Seconds of training hold all that a contender does in it: measuring a plan and compiling too.",
        seconds_table(
            found, "Wall seconds per epoch, and in brackets the speed against the best loop by hand", per_epoch("wall")
        ),
        seconds_table(found, "CPU seconds per epoch, and the same in brackets", per_epoch("cpu")),
        seconds_table(found, "Wall seconds of the median epoch: without what is spent once", settled),
        seconds_table(
            found,
            "Wall seconds from starting Python to the trained network",
            lambda run: float(run["started"] + run["wall"]),
        ),
        plain_table(found, "Peak memory in MiB above that after imports and data (and in all)", memory_cell(found)),
        plain_table(found, "Loss reached: mean of the last training epoch / held-out rows", loss_cell(found)),
        plans(found),
        peaks(found, facts),
        overhead(facts),
        against_peers(found),
    ]
    return "\n\n".join(part for part in parts if part)


def versions(found: Runs, facts: dict[str, Any]) -> str:
    """Of each package that took part."""
    named = {CONTENDERS[run["contender"]].needs: run["version"] for run in found.all if "version" in run}
    return ", ".join([f"Python {facts['python']}", *(f"{name} {number}" for name, number in sorted(named.items()))])


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"**{title}**", "", row(head), row(["---"] * len(head)), *(row(cells) for cells in rows)]
    return "\n".join(lines)


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def seconds_table(found: Runs, title: str, value: Value) -> str:
    """A line for each workload, a column for each contender, and the geometric mean of the speeds."""

    def best(workload: str) -> str:
        return found.best_by_hand(workload, value)

    def cell(workload: str, contender: str) -> str:
        seconds = found.median(workload, contender, value)
        if math.isnan(seconds):
            return found.reason(workload, contender)
        speed = found.speed(workload, contender, best(workload), value)
        return f"{seconds:.3g}" if math.isnan(speed) else f"{seconds:.3g} ({speed:.2f}x)"

    means = [found.over_all(contender, best, value) for contender in found.contenders]
    last = ["geometric mean", *("" if math.isnan(mean) else f"{mean:.2f}x" for mean in means)]
    lines = [[WORKLOADS[w].title, *(cell(w, c) for c in found.contenders)] for w in found.workloads]
    return table(title, ["", *titles(found)], [*lines, last])


def plain_table(found: Runs, title: str, cell: Callable[[str, str], str]) -> str:
    return table(
        title,
        ["", *titles(found)],
        [[WORKLOADS[w].title, *(cell(w, c) for c in found.contenders)] for w in found.workloads],
    )


def titles(found: Runs) -> list[str]:
    return [CONTENDERS[name].title for name in found.contenders]


def memory_cell(found: Runs) -> Callable[[str, str], str]:
    def cell(workload: str, contender: str) -> str:
        above = found.median(workload, contender, lambda run: float(run["peak_above"]))
        whole = found.median(workload, contender, lambda run: float(run["peak"]))
        return "" if math.isnan(above) else f"{above:.0f} ({whole:.0f})"

    return cell


def loss_cell(found: Runs) -> Callable[[str, str], str]:
    def cell(workload: str, contender: str) -> str:
        last = found.median(workload, contender, lambda run: float(run["losses"][-1]))
        held_out = found.median(workload, contender, lambda run: float(run["held_out_loss"]))
        return "" if math.isnan(last) else f"{last:.4g} / {held_out:.4g}"

    return cell


def plans(found: Runs) -> str:
    """What was chosen in each run."""
    rows = []
    for workload in found.workloads:
        notes = [
            ", ".join(f"{name} {value}" for name, value in run["notes"].items()) for run in found.of(workload, OURS)
        ]
        counts = {note: notes.count(note) for note in dict.fromkeys(notes)}
        if counts:
            told = "; ".join(f"{note} ({count} of {len(notes)})" for note, count in counts.items())
            rows.append([WORKLOADS[workload].title, told])
    return table("The plans that Sounding chose", ["", "in so many rounds"], rows) if rows else ""


def peaks(found: Runs, facts: dict[str, Any]) -> str:
    """GFLOP/s reached in the median epoch, of those of a large matrix product."""
    if "peak" not in facts:
        return ""
    peak = facts["peak"]

    def reached(workload: str, contender: str) -> float:
        seconds = found.median(workload, contender, settled)
        return float(peak["operations"][workload] * facts["batches"][workload] / seconds / 1e9)

    rows = []
    for workload in found.workloads:
        best = found.best_by_hand(workload, settled)
        cells = [
            "" if math.isnan(rate := reached(workload, name)) else f"{rate:.0f} ({100 * rate / peak['float32']:.0f} %)"
            for name in (OURS, best)
            if name
        ]
        rows.append([WORKLOADS[workload].title, f"{peak['operations'][workload] / 1e9:.2f}", *cells])
    return table(
        f"GFLOP/s reached in the median epoch, and that as part of what a {4096}x{4096} product reaches in float32 "
        f"({peak['float32']:.0f}; in bfloat16 {peak['bfloat16']:.0f})",
        ["", "GFLOP of a batch", CONTENDERS[OURS].title, "best loop by hand"],
        rows,
    )


def overhead(facts: dict[str, Any]) -> str:
    if "overhead" not in facts:
        return ""
    values = facts["overhead"]
    return (
        f"On the smallest network (14-32-2, batch 32, one thread) a step takes {values['bare']:.0f} microseconds of "
        f"CPU in the bare loop and {values['sounding']:.0f} in Sounding: {values['overhead']:.1f} more "
        "(`python -m benchmarks.speed.overhead`)."
    )


def against_peers(found: Runs) -> str:
    """How many times faster Sounding is than each other contender, over all workloads."""
    if OURS not in found.contenders:
        return ""
    lines = []
    for contender in found.contenders:
        if contender != OURS:
            walls, cpus = (
                found.over_all(OURS, lambda workload, against=contender: against, per_epoch(key))  # type: ignore[misc]
                for key in ("wall", "cpu")
            )
            lines.append([CONTENDERS[contender].title, f"{walls:.2f}x", f"{cpus:.2f}x"])
    return table("Sounding against each other, geometric mean over workloads", ["", "wall", "CPU"], lines)


def write(path: Path, text: str) -> None:
    """Put the tables between the markers, which are added at the end where they are missing."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2] if begin else "\n"
    title = "" if begin else "\n## How fast training is\n\n"
    path.write_text(f"{before}{title}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
