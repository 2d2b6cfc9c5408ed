"""Healing: what the watch finds is remedied in another training from the start, and kept only if it helped.

A training is never ended early for what was found in it: without its result nobody could say that a remedy helped. And
every training begins at the start, so that its recipe alone repeats it, bit for bit.

Each training that ended is written down as a whole, as a checkpoint is, with its weights and what the watch found.
Whoever goes on after a kill reads these, and begins the training anew that was not at its end: the watch has to see
all of it to find the same again.
"""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from torch import Tensor

from sounding.batches import Batch, Batches
from sounding.errors import DamagedError, DivergedError, InterruptedRunError, RecipeError, UserError
from sounding.finding import Finding, Remedy
from sounding.recipe import Recipe
from sounding.training.checkpoint import load, save
from sounding.training.history import History
from sounding.training.outputs import Outputs, joined
from sounding.training.plan import Way
from sounding.training.saving import refuse_changes

FOLDER = "healing"
"""Beside the checkpoints of a trainer: the weights of the start, then what each training ended with."""
PARTS = 32
"""Parts of the validation rows that are left out in turn to see by how much a difference may vary ..."""
ROWS_OF_A_PART = 4
"""... of so many rows at least, ..."""
CERTAIN = 1.0
"""... and how many standard errors a gain has to be above zero: an experiment of the watch spoke for it already."""
RATE = "training.optimizer.lr"
EPOCHS = "training.epochs"
GOES_ON = {RATE, EPOCHS, "network.options.hidden_sizes"}
"""What is taken further the way that helped, as long as there are attempts left: rules go by a few steps only."""
FURTHER = (3, 10)
"""Times as much (for a rate that was too high: as little) is tried then."""
NAME = "training"
"""Of the tensors in a record."""


Remedied = Callable[[Recipe, Mapping[str, Any]], Recipe | None]
"""The recipe with some changes, or none where they cannot be made."""


@dataclass(frozen=True, slots=True)
class Score:
    """The monitored value of a network on the validation rows."""

    value: float = math.nan
    without: Sequence[float] = ()
    """The same for all rows but those of one part, part by part."""

    def error_to(self, other: Score) -> float:
        """The standard error of the difference between two networks on the same rows, by the jackknife.

        Source: Efron and Stein 1981, The jackknife estimate of variance.
        """
        differences = [a - b for a, b in zip(self.without, other.without, strict=True)] or [0.0]
        mean, count = fmean(differences), len(differences)
        return math.sqrt((count - 1) / count * sum((one - mean) ** 2 for one in differences))

    def is_better_than(self, other: Score, *, maximize: bool) -> bool:
        """Whether the difference is more than chance; any number is better than none."""
        if not math.isfinite(self.value) or not math.isfinite(other.value):
            return math.isfinite(self.value)
        gain = self.value - other.value if maximize else other.value - self.value
        return gain > 0 and gain > CERTAIN * self.error_to(other)


def score_of(
    held_out: Batches,
    answer: Callable[[Batch], tuple[Outputs, Tensor, Tensor | None]],
    metrics: Callable[[Any, Tensor], Mapping[str, float]] | None,
    monitor: str,
    units: Callable[[Batch], float],
) -> Score:
    """The monitored value, with and without each part of the rows: some rows, and no more than a batch.

    answer:  outputs, loss and target of a batch.
    units:   what its loss is the mean over.
    """
    several = min(PARTS, held_out.rows // ROWS_OF_A_PART)
    count = max(several, -(-held_out.rows // held_out.batch_size), 1)
    whole = copy.copy(held_out)
    whole.batch_size = held_out.rows
    shares, losses, outputs, targets = list[float](), list[float](), list[Outputs](), list[Tensor]()
    for part in range(count):
        batch = next(whole.shared(part, count).epoch(0))
        output, loss, target = answer(batch)
        shares.append(units(batch))
        losses.append(float(loss) * shares[-1])
        if metrics is not None and target is not None:
            outputs.append(output)
            targets.append(target)

    def value(left_out: int | None) -> float:
        kept = [part for part in range(count) if part != left_out]
        if metrics is None or monitor == "loss":
            return sum(losses[part] for part in kept) / sum(shares[part] for part in kept)
        measured = metrics(*(joined([parts[part] for part in kept]) for parts in (outputs, targets)))
        return float(measured.get(monitor, math.nan))

    return Score(value(None), [value(part) for part in range(count)] if count > 1 else ())


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """One training from the start to its end: what it ended with, how good that is, and what was found."""

    recipe: Recipe
    """By which it can be repeated."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    history: History = field(default_factory=History)
    score: Score = field(default_factory=Score)
    findings: Sequence[Finding] = ()
    flow: Mapping[str, Any] = field(default_factory=dict)
    """What the watch measured of each layer."""
    error: UserError | None = None
    """That ended it, where it has no result: it diverged, for instance."""

    def values(self) -> dict[str, Any]:
        """Everything but the weights, as plain JSON values."""
        return {
            "recipe": self.recipe.settings(),
            "history": self.history.to_json(),
            "score": [self.score.value, list(self.score.without)],
            "findings": [finding.to_json() for finding in self.findings],
            "flow": dict(self.flow),
            "error": None if self.error is None else [self.error.what, self.error.remedy],
        }

    @classmethod
    def read(cls, place: Path) -> Training:
        """One that was written down.

        Raises:
            DamagedError: if it is not as it was written.
        """
        tensors, state = load(place)
        try:
            return cls(
                recipe=Recipe().with_settings(state["recipe"]),
                weights=tensors[NAME],
                history=History.from_json(state["history"]),
                score=Score(*state["score"]),
                findings=[Finding.from_json(values) for values in state["findings"]],
                flow=state["flow"],
                error=None if state["error"] is None else DivergedError(*state["error"]),
            )
        except (KeyError, TypeError) as error:
            raise DamagedError(f"this is no record of a training: {error}", file=place) from None


class Records:
    """Trainings that ended, written down one by one; without a folder they are forgotten.

    resume: whether to go on with what is there; else it is removed.
    """

    def __init__(self, folder: Path | None, *, resume: bool) -> None:
        self.folder = folder
        if folder is not None and not resume:
            shutil.rmtree(folder, ignore_errors=True)

    def start(self) -> tuple[Recipe, Mapping[str, Tensor]] | None:
        """Recipe and weights with which healing began, if it did."""
        if (place := self._place(0)) is None or not place.is_dir():
            return None
        tensors, state = load(place)
        return Recipe().with_settings(state["recipe"]), tensors[NAME]

    def way(self) -> Way | None:
        """How the machine was used, where that was measured before healing began."""
        return None if (start := self.start()) is None else Way.of(start[0].training)

    def begin(self, recipe: Recipe, weights: Mapping[str, Tensor]) -> None:
        """Write down recipe and weights of the start."""
        self._save(weights, {"recipe": recipe.settings()})

    def training(self, number: int, recipe: Recipe, train: Callable[[Recipe], Training]) -> Training:
        """The training of that number, from 1: read where it is written down, else done and written down."""
        if (place := self._place(number)) is not None and place.is_dir():
            return replace(Training.read(place), recipe=recipe)  # which may save more often than the one that was
        try:
            done = train(recipe)
        except InterruptedRunError:
            again = "; resumed, it begins anew, for the watch has to see all of it" * (self.folder is not None)
            raise InterruptedRunError(f"interrupted in training {number} of a healing run{again}") from None
        self._save(done.weights, done.values())
        return done

    def _place(self, number: int) -> Path | None:
        return None if self.folder is None else self.folder / f"{number + 1:06d}"

    def _save(self, weights: Mapping[str, Tensor], state: dict[str, Any]) -> None:
        if self.folder is not None:
            save(self.folder, {NAME: weights}, state, keep=1_000_000)


def heal(
    recipe: Recipe,
    train: Callable[[Recipe], Training],
    records: Records,
    *,
    remedied: Remedied,
    monitor: str,
    maximize: bool = False,
    say: Callable[[str], object] | None = None,
) -> Training:
    """Train, try the remedies of what was found, causes first, and keep what is better on the validation rows.

    recipe:    to begin with.
    train:     trains once, from the start.
    remedied:  the recipe with some changes; none where they cannot be made.

    Returns: the best training. Among its findings are those that were mended and one for each remedy that was tried.
    """
    limit = recipe.training.heal_attempts
    recipe = recipe.with_settings({"training.heal": False})

    def as_given(recipe: Recipe) -> Training:
        done = train(recipe)
        if done.error is not None and not isinstance(done.error, DivergedError):
            raise done.error  # not written down: it is no outcome of a training, and may be gone when that is resumed
        return done

    kept = records.training(1, recipe, as_given)
    tried, told, further = [recipe], list[Finding](), list[Proposal]()
    while len(tried) <= limit:
        proposals = [*_proposals(kept), *further]
        possible = ((one, remedied(kept.recipe, one.changes)) for one in proposals)
        proposal, changed = next(
            ((one, to) for one, to in possible if to is not None and to not in tried), (None, None)
        )
        if proposal is None or changed is None:
            break
        if say is not None:
            say(f"healing {proposal.finding.rule}: training again with {_in_words(proposal.changes)}")
        tried.append(changed)
        after = records.training(len(tried), changed, train)
        better = after.score.is_better_than(kept.score, maximize=maximize)
        told.append(_outcome(proposal, kept, after, monitor=monitor, better=better))
        if say is not None:
            say(told[-1].title)
        if better:
            if proposal not in further:
                told.append(_mended(proposal.finding, told[-1]))
            further = _further(proposal, kept.recipe, after)
            kept = after
    return replace(kept, findings=[*kept.findings, *told])


class Proposal(NamedTuple):
    """A change of the recipe that may mend a finding."""

    finding: Finding
    changes: dict[str, Any]


def _proposals(training: Training) -> list[Proposal]:
    """The remedies of what was found, causes first; for a loss that was lost, at last a lower rate."""
    found = [Proposal(one, one.remedy.set) for one in training.findings if one.remedy is not None and one.remedy.set]
    if isinstance(training.error, DivergedError):
        rate = training.recipe.training.optimizer.lr / 10
        diverged = Finding(
            rule="diverged",
            severity="error",
            title=training.error.what,
            meaning="A training that diverged has no result.",
            remedy=Remedy(f"a learning rate of {rate:.1g}", {RATE: float(f"{rate:.1g}")}),
        )
        found.append(Proposal(diverged, {RATE: float(f"{rate:.1g}")}))
    return found


def _further(proposal: Proposal, before: Recipe, after: Training) -> list[Proposal]:
    """Further on the way that helped; more epochs than there were before patience ended are none."""
    (key, now), *others = proposal.changes.items()
    if others or key not in GOES_ON or (key == EPOCHS and len(after.history) < now):
        return []
    is_lower = key == RATE and now < before.training.optimizer.lr
    return [Proposal(proposal.finding, {key: _times(now, 1 / by if is_lower else by)}) for by in FURTHER]


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_times(one, factor) for one in value]
    return value * factor if isinstance(value, int) else float(f"{value * factor:.1g}")


def _outcome(proposal: Proposal, before: Training, after: Training, *, monitor: str, better: bool) -> Finding:
    """What became of a remedy."""
    then, now = before.score, after.score
    compared = math.isfinite(then.value) and math.isfinite(now.value)
    error, settings = now.error_to(then) if compared else None, before.recipe.settings()
    what = f"{_in_words(proposal.changes)} against {proposal.finding.rule}"
    return Finding(
        rule="healed" if better else "not-healed",
        severity="info",
        title=f"{what}: {monitor} {_number(then.value)} before, {_number(now.value)} with it"
        + ("" if better else "; not kept"),
        evidence={
            "answers": proposal.finding.rule,
            "changes": dict(proposal.changes),
            "instead_of": {key: settings.get(key) for key in proposal.changes},
            "monitor": monitor,
            "before": then.value if math.isfinite(then.value) else None,
            "after": now.value if math.isfinite(now.value) else None,
            "standard_error": error,
            "kept": better,
            "found_before": [one.rule for one in before.findings],
            "found_after": [one.rule for one in after.findings],
            **({} if after.error is None else {"error": str(after.error)}),
        },
        meaning=f"The network is the one that was trained {'with' if better else 'without'} it, bit for bit.",
        confirmed="on the validation rows: "
        + (f"a difference of {abs(now.value - then.value):.3g} ± {error:.2g}" if compared else "one has no result"),
    )


def _mended(finding: Finding, outcome: Finding) -> Finding:
    """The finding as it stays listed."""
    confirmed = "; ".join(filter(None, [finding.confirmed, outcome.title]))
    return replace(finding, severity="info", title=f"mended: {finding.title}", confirmed=confirmed)


def _in_words(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in changes.items())


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "no result"


HARMLESS = {
    f"training.{name}"
    for name in (
        "checkpoint_every",
        "keep_checkpoints",
        "keep_best",
        "keep_every",
        "heal_attempts",
        "workers",
        "device",
    )
}
"""Keys of the recipe that may change when a healing run is resumed."""


# What a trainer can heal by itself.

FOREIGN = {
    *("label_smoothing", "class_weights", "augment", "erase", "mixup", "cutmix", "plan", "watch", "heal"),
    *("heal_attempts", "time", "device", "compile", "cuda_graphs"),
}
"""Fields of the training recipe that a trainer leaves to others, or that are no remedies."""


def refuse_to_heal(*, own: bool, rows: int, processes: int) -> None:
    """Say where healing is not possible, and what to do.

    own:   whether players or optimizer are objects of the user.
    rows:  of validation.

    Raises:
        RecipeError: for what cannot be healed.
    """
    if own:
        raise RecipeError(
            "players, or an optimizer that is built already, cannot be trained again from the start by another recipe",
            "give the name of an optimizer or a function that builds it, or leave heal out",
        )
    if not rows:
        raise RecipeError(
            "healing needs validation rows to tell whether a remedy helped",
            "give some, as in fit(rows, validation=(inputs, target)) or data.validation=0.1, or leave heal out",
        )
    if processes > 1:
        raise RecipeError("several processes do not heal", "heal with one, and train on with the recipe that it finds")


def remedied_by(keys: Callable[[str], bool], builds: Callable[[Recipe], object] = lambda recipe: None) -> Remedied:
    """How changes are made in a recipe: all of them or none.

    keys:    those that can be changed.
    builds:  raises a `UserError` for a recipe of which nothing can be built.
    """

    def remedied(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe | None:
        if not all(map(keys, changes)):
            return None
        if set(changes) == {"training.patience"} and recipe.training.patience > 0:
            return None  # its best epoch is kept already; it would only end earlier
        try:
            changed = recipe.with_settings(changes)
            builds(changed)
        except RecipeError:
            return None
        return changed

    return remedied


def is_trainers(key: str, *, own_rows: bool, own_optimizer: bool, own_schedule: bool) -> bool:
    """Whether a trainer alone can change what a key of the recipe sets.

    own_rows, own_optimizer, own_schedule: whether batches, optimizer and schedule are made by the user.
    """
    section, _, name = key.partition(".")
    if section != "training" or name in FOREIGN:
        return False
    theirs = {"batch_size": own_rows, "schedule": own_schedule, "warmup": own_schedule}
    return not (theirs.get(name, False) or (name.startswith("optimizer.") and own_optimizer))


def begin(recipe: Recipe, weights: Mapping[str, Tensor], records: Records) -> tuple[Recipe, Mapping[str, Tensor]]:
    """Recipe and weights of the start: those that were written down, else these, which then are.

    Raises:
        RecipeError: naming the settings that differ from those that were written down.
    """
    if (start := records.start()) is None:
        records.begin(recipe, weights)
        return recipe, weights
    then, now = ({k: v for k, v in one.settings().items() if k not in HARMLESS} for one in (start[0], recipe))
    refuse_changes(then, now, records.folder)
    return recipe, start[1]
