"""From a source to rows: read, cut into examples, and joined with what else tells of them; columns come later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sounding.data.labelled import drop_unlabelled
from sounding.data.sources import open_source, read_source
from sounding.data.stream import Sample, sample
from sounding.data.table import Table
from sounding.data.windows import usual_stride
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.recipe import DataRecipe, Recipe, before_reading, is_pretrained
from sounding.tasks import TASKS, Task, asks_for_target
from sounding.tasks.beginning import Beginning
from sounding.tasks.carrying import EarlierRun
from sounding.tasks.examples import Examples
from sounding.tasks.pretrained import Encoder


@dataclass(frozen=True)
class Reading:
    """The rows of a source as its task takes them, and what was asked of them."""

    asked: Recipe
    """What the user set, and what follows from the task before the data are looked at."""
    table: Table
    """Every row is an example; a part `test` holds the rows of a second source."""
    target: list[str]
    tests: object
    """The second source, or none."""
    data: DataRecipe
    """Settings by which columns are recognised."""
    drawn: Sample | None
    """What is known of the rest, where not all rows fit into memory."""
    findings: list[Finding]
    """Rows that were left out."""
    beginning: Beginning | None
    """What was trained before, and the network begins with."""

    @property
    def task(self) -> type[Task]:
        """That which is asked for; where it is to be chosen, what all have in common."""
        return TASKS.get(self.asked.task, Task)

    @property
    def examples(self) -> Examples:
        """How a source becomes examples."""
        return self.task.from_source

    @property
    def needs_target(self) -> bool:
        """Whether there has to be something to predict."""
        return asks_for_target(self.asked.task)

    @property
    def rows(self) -> int:
        """Of the source."""
        return len(self.table) if self.drawn is None else self.drawn.rows


def read(source: object, settings: Mapping[str, Any], *, test: object = None, kept: Path | None = None) -> Reading:
    """Read a source, and a second one with the rows that measure the result.

    test, kept: as in `prepare`.

    Raises:
        UserError: for anything in the source or the settings that the user can mend.
    """
    asked = Recipe().with_settings(settings)  # a mistyped key stops here, before anything is read
    asked = _settled(settings, asked.task)
    beginning = _beginning(asked, kept)
    table, drawn = _opened(source, asked)
    if asked.task == "auto" and (meant := _meant(table, asked)):
        asked = _settled(settings, meant)
    examples, tests = TASKS.get(asked.task, Task).from_source, asked.test or test
    tests = None if isinstance(tests, str) and not tests else tests
    target = examples.targets_of(table, asked.target or list(table.target), asked)
    cuts = examples.cuts(asked)
    if cuts:
        if asked.data.window:
            asked.data.stride = asked.data.stride or usual_stride(len(table), asked.data.window)
        held_out = {"test": asked.data.test if tests is None else 0.0, "validation": asked.data.validation}
        table = examples.cut(table, asked, target, held_out)
    if tests is not None:
        rows = read_source(tests, asked.data, asked.task)
        table = table.with_part("test", examples.cut(rows, asked, target, None) if cuts else rows)
    if not target and asks_for_target(asked.task):
        raise _no_target(table)
    table, unlabelled = drop_unlabelled(examples.gathered(table, asked), target, asked.data)
    data = examples.reads(table, target, examples.of_examples(asked.data, table) if cuts else asked.data)
    return Reading(asked, table, target, tests, data, drawn, list(unlabelled), beginning)


def _settled(settings: Mapping[str, Any], task: str) -> Recipe:
    """What is asked of a task, with what follows from it before anything is read."""
    asks_for_target(task)  # one that does not exist stops here
    asked = Recipe().with_settings({**before_reading(task), **settings, "task": task})
    return TASKS.get(task, Task).from_source.settled(asked)


def _opened(source: object, asked: Recipe) -> tuple[Table, Sample | None]:
    """All rows of a source, or some of them where it does not fit into memory."""
    examples = TASKS.get(asked.task, Task).from_source
    whole_only = examples.cuts(asked) or examples.ordered
    opener = read_source if whole_only else open_source
    opened = opener(source, asked.data, asked.task)
    if isinstance(opened, Table):
        return opened, None
    drawn = sample(opened, asked.data, asked.target, asked.seed)
    return drawn.table, drawn


def _meant(table: Table, asked: Recipe) -> str:
    """The task that the source leaves no doubt of: as it says, or as its target does; mostly none."""
    if table.task:
        return table.task
    named = asked.target or list(table.target)
    targets = [table.column(name, asked.data) for name in named if name in table.columns]
    return next((name for name, task in TASKS.items() if task.from_source.are_meant_by(targets)), "")


def _beginning(asked: Recipe, kept: Path | None) -> Beginning | None:
    """What was trained before, if the network is to begin with that."""
    if asked.transfer.source:
        return EarlierRun.open(asked.transfer, kept)
    return Encoder.open(asked.network.name, kept) if is_pretrained(asked.network.name) else None


def _no_target(table: Table) -> DataError:
    without = [name for name, task in TASKS.items() if not task.needs_target]
    return DataError(
        "no column is named to be predicted",
        f"give --target and one of: {', '.join(table.columns)}; or a --task that needs none: {', '.join(without)}",
        file=table.name,
    )
