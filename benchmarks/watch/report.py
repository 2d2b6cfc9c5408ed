"""The measurement as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.watch.measure import Figures, Measured, confusion, harm, median_steps

PUBLISHED = {"found": "0.94", "alarmed": "0.36 to 0.96", "first": "0.63", "recall": "0.55", "precision": "0.37"}
"""The best published figures, each of another tool."""
WANTED = {"found": ">= 0.95", "alarmed": "<= 0.02", "first": ">= 0.80", "recall": ">= 0.75", "precision": ">= 0.75"}


def report(measured: Sequence[Measured], twins: Mapping[str, str] | None = None) -> str:
    """The figures, and all that is behind them; twins: by the id of a faulty program, that of its fixed twin."""
    parts = [table(measured)]
    parts += [
        section(title, lines)
        for title, lines in (
            ("True cause -> named first", confusion_lines(measured)),
            ("Missed", [line(one) for one in measured if one.kind == "faulty" and not one.alarms]),
            (
                "Found, and another cause named first",
                [line(one) for one in measured if one.kind == "faulty" and one.alarms and not one.is_right],
            ),
            ("False alarms", [line(one) for one in measured if one.kind in {"healthy", "fixed"} and one.alarms]),
            (
                "Healthy programs that do not learn what they should",
                [f"{one.id}: {one.metric:.3f} < {one.floor}" for one in measured if is_weak(one)],
            ),
            (
                "Faults that do no harm: fixed, faulty",
                [f"{name}: {fixed:.3f}, {faulty:.3f}" for name, fixed, faulty in harm(measured, twins or {})],
            ),
            ("Ended in an error under the watch", [f"{one.id}: {one.crash}" for one in measured if one.crash]),
        )
        if lines
    ]
    return "\n\n".join(parts)


def table(measured: Sequence[Measured]) -> str:
    """The figures, by part and together."""
    parts = [part for part in ("tune", "report") if any(one.part == part for one in measured)]
    columns = {part: Figures.of([one for one in measured if one.part == part]) for part in parts}
    if len(parts) > 1:
        columns["both"] = Figures.of(measured)
    rows = [
        ("faulty programs found", "found", [str(one.found) for one in columns.values()]),
        ("alarms on healthy configurations", "alarmed", [str(one.alarmed) for one in columns.values()]),
        ("true cause named first", "first", [str(one.first_right) for one in columns.values()]),
        ("cause, recall", "recall", [str(one.recall) for one in columns.values()]),
        ("cause, precision", "precision", [str(one.precision) for one in columns.values()]),
        ("steps until found, median", "", [median_steps(one) for one in columns.values()]),
        ("ended in an error", "", [str(one.crashes) for one in columns.values()]),
    ]
    lines = [f"| measure | published | wanted | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    lines += [
        f"| {name} | {PUBLISHED.get(key, '')} | {WANTED.get(key, '')} | {' | '.join(cells)} |"
        for name, key, cells in rows
    ]
    return "\n".join(lines)


def section(title: str, lines: Sequence[str]) -> str:
    return f"{title} ({len(lines)}):\n" + "\n".join(f"  {line}" for line in lines)


def line(one: Measured) -> str:
    truth = f" [{' '.join(one.causes)}]" if one.causes else ""
    findings = "; ".join(f"{said.severity} {said.rule}: {said.title}" for said in one.said) or "nothing"
    return f"{one.id}{truth} {one.metric:.3f}: {findings}"


def confusion_lines(measured: Sequence[Measured]) -> list[str]:
    return [
        f"{cause}: " + ", ".join(f"{rule} {count}" for rule, count in named.most_common())
        for cause, named in sorted(confusion(measured).items())
    ]


def is_weak(one: Measured) -> bool:
    return one.kind in {"healthy", "fixed"} and not one.is_well
