"""The whole way, in order: prepare the data, train the network, compare it, write the run."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save as tensor_bytes
from torch import nn

from sounding.errors import InterruptedRunError, UserError
from sounding.finding import Finding
from sounding.recipe import Recipe
from sounding.report import card, write_report
from sounding.report.contents import gather, plain
from sounding.run import Events, FolderLock, Run, environment, write_text
from sounding.tasks import Task, carrying, pretrained
from sounding.tasks.prepare import Prepared, prepare
from sounding.training import EpochRecord, Player, StepRecord, Trainer
from sounding.training.checkpoint import write_folder
from sounding.training.distributed import Processes, join, launch, restarted
from sounding.training.healing import FOLDER, Records, Training, begin, heal, refuse_to_heal, remedied_by
from sounding.training.machine import find_device
from sounding.training.restoring import evaluating
from sounding.training.speed import speed_of
from sounding.trust.baseline import compare, verdict

Say = Callable[[str], object]

LAUNCH = ".launch"
"""The file that names the launch of torchrun in which a run began."""
BEFORE_THE_RECIPE = {".lock", LAUNCH, "schema.json", "environment.json", carrying.KEPT, pretrained.KEPT}
"""What a run can leave that was killed before it wrote its recipe, beside halves of these."""


def fit(
    source: object,
    target: str | Sequence[str] | None = None,
    *,
    test: object = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    say: Say | None = print,
    progress: bool = True,
) -> Run:
    """Train the right network for a source, compare it with simple models, and leave a run folder.

    source:    a file, a folder, `@NAME` of the catalogue, arrays, or a data frame.
    target:    the column to predict; several columns ask for several answers at once.
    test:      a second source with the rows to measure the result on.
    settings:  any values of the recipe, such as `{"seed": 1, "training.epochs": 20}`.
    out:       the folder of the run; `runs/NAME-NUMBER` when left out.
    say:       called with each line of explanation; none for silence.

    Raises:
        UserError: in one line, for anything in the data or the settings that the user can mend.
        InterruptedRunError: after Ctrl-C or SIGTERM, when everything is saved; `resume` goes on.

    Under torchrun all processes come here; the first one writes and speaks. Those that it started again, after one of
    them failed, go on with the run.
    """
    started, asked = time.perf_counter(), _asked(target, settings)
    processes = _processes(Recipe().with_settings(asked))
    (again,) = processes.any(restarted())
    if begun := processes.agreed(_begun(out, again)):
        source, test = (None if isinstance(given, str | Path) else given for given in (source, test))
        return resume(begun, source, test=test, say=say, progress=progress)
    prepared = _prepared(processes, source, asked, test)
    folder = Path(processes.agreed(str(_new_folder(out, prepared.table.name)) if processes.first else ""))
    if not processes.first:
        return _follow(prepared, folder, resuming=False)
    with FolderLock(folder):
        _refuse_taken(folder)
        facts = _facts(prepared)
        write_text(folder / "schema.json", json.dumps(prepared.schema.to_json()))
        write_text(folder / "environment.json", json.dumps(facts, indent=2))
        if launch():
            write_text(folder / LAUNCH, launch())
        if prepared.beginning is not None:
            prepared.beginning.store(folder)
        write_text(folder / "recipe.toml", prepared.recipe.to_toml())  # the last: from here on there is a run to resume
        return _train(prepared, folder, facts, started, say=say or _silence, progress=progress, resuming=False)


def check(
    source: object,
    target: str | Sequence[str] | None = None,
    *,
    test: object = None,
    settings: Mapping[str, Any] | None = None,
) -> Prepared:
    """Everything that `fit` does before the first training step: what the columns are, and what is odd about them."""
    return prepare(source, _asked(target, settings), test=test)


def check_run(folder: str | Path) -> dict[str, Any]:
    """What the data checks and the watch found in a run; where it is not finished, what they found so far.

    Returns: plain JSON values: `run`, whether it is `finished`, its `epochs`, the `findings`, and of the watch how many
             `steps` it saw and how many of them it `looked_at` closely, none where it did not look on or is not done.

    Raises:
        UserError: if there is no run in the folder.
    """
    folder = Path(folder)
    if not is_run(folder):
        raise UserError("there is no run here", "give the folder of a run", file=folder)
    if not (folder / "results.json").is_file():
        events = list(Events(folder))
        damaged = [finding.to_json() for finding in Events(folder).findings()]
        found = [{key: event[key] for key in event if key != "kind"} for event in events if event["kind"] == "finding"]
        findings = [finding for i, finding in enumerate(found) if finding not in found[:i]]  # resuming tells them again
        findings += damaged
        epochs = max((event["epoch"] + 1 for event in events if event["kind"] == "epoch"), default=0)
        players, finished = {}, False
    else:
        results = Run(folder).results
        findings, epochs, finished = results["findings"], results["epochs"], True
        players = results.get("flow", {}).get("players", {})
    return {
        "run": str(folder),
        "finished": finished,
        "epochs": epochs,
        "steps": sum(player["done"] for player in players.values()) if players else None,
        "looked_at": sum(len(player["steps"]) for player in players.values()) if players else None,
        "findings": findings,
    }


def is_run(folder: str | Path) -> bool:
    """Whether a run lives, or began, in a folder; the model that it left is none."""
    return (Path(folder) / "recipe.toml").is_file() and not (Path(folder) / "manifest.json").is_file()


def _asked(target: str | Sequence[str] | None, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    asked = dict(settings or {})
    if target is not None:
        asked["target"] = [target] if isinstance(target, str) else list(target)
    return asked


def resume(
    run: str | Path,
    source: object = None,
    *,
    test: object = None,
    say: Say | None = print,
    progress: bool = True,
) -> Run:
    """Go on with an interrupted run; it ends in the same bits as one that was left alone.

    source: only for a run on arrays or frames in memory, which the folder cannot name: the same data again.
    test:   in the same way, rows in memory that the run was to be measured on.

    Raises:
        UserError: if the data are not those that the run began with.
    """
    started, folder = time.perf_counter(), Path(run)
    if not (folder / "recipe.toml").is_file():
        raise UserError("there is no run here", "give the folder of an interrupted run", file=folder)
    recipe = Recipe.from_toml((folder / "recipe.toml").read_text(encoding="utf-8"), file=folder / "recipe.toml")
    if source is None and not recipe.source:
        raise UserError("this run began with data in memory", "use sounding.resume(run, data)", file=folder)
    if (start := Records(_records_of(folder), resume=True).start()) is not None:
        recipe, _ = start  # the recipe in the folder may be the healed one already
    processes, source = _processes(recipe), recipe.source if source is None else source
    if not processes.first:
        prepared = _prepared(processes, source, recipe.settings(), test, kept=folder)
        return _follow(prepared, folder, resuming=True)
    with FolderLock(folder) as lock:
        prepared = _prepared(processes, source, recipe.settings(), test, kept=folder)
        before = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        facts = _facts(prepared)
        without_test = "" if recipe.test or test is not None else str(folder)
        noticed = [
            *_changes(before, facts, prepared.table.name, without_test),
            *lock.findings,
            *Events(folder).findings(),
        ]
        prepared = replace(prepared, findings=[*prepared.findings, *noticed])
        return _train(prepared, folder, facts, started, say=say or _silence, progress=progress, resuming=True)


def _train(
    prepared: Prepared, folder: Path, facts: dict[str, Any], started: float, *, say: Say, progress: bool, resuming: bool
) -> Run:
    recipe, task, split, target = prepared.recipe, prepared.task, prepared.split, prepared.target
    events = Events(folder)
    for line in prepared.lines():
        say(line)
    for finding in prepared.findings:
        events.append("finding", **finding.to_json())

    network = prepared.network()
    players = task.players(network, recipe.training)
    batches, validation = prepared.batches(split.train, training=True), prepared.batches(split.validation)
    showing = task.showing(prepared.inputs_of, split.validation, target[split.validation])
    onlookers = [events.record, Snapshots(showing, network, players, events)]
    shown: dict[str, Any] = {"onlookers": onlookers, "say": say, "progress": progress}
    trainer = _trainer(prepared, network, folder, players, **shown)
    if recipe.training.heal:
        refuse_to_heal(own=players is not None, rows=len(split.validation), processes=trainer.processes.count)
    if trainer.processes.count > 1:
        prepared.decisions.append(f"{trainer.processes.count} processes train it, each on its share of every batch")
        say(prepared.decisions[-1])
    elif recipe.training.plan == "measure":
        plan = trainer.plan(batches, precisions=_precisions(prepared))
        events.append("plan", table=plan.rows, seconds=plan.seconds, notes=plan.notes)
        recipe = recipe.with_settings(plan.way.settings)
        prepared = replace(prepared, recipe=recipe, decisions=[*prepared.decisions, f"plan: {plan}"])
        write_text(folder / "recipe.toml", recipe.to_toml())
        say(prepared.decisions[-1])
    say(f"training on {prepared.training_rows:,} rows, at most {recipe.training.epochs} epochs")
    found: Sequence[Finding] = ()
    try:
        if recipe.training.heal:
            healed = _healed(prepared, folder, events, resuming=resuming, **shown)
            found, flow, history = healed.findings, healed.flow, healed.history
            if healed.error is not None:
                raise healed.error
            prepared = prepared.by(healed.recipe)
            recipe, task, network = prepared.recipe, prepared.task, prepared.network()
            network.load_state_dict(healed.weights)
            batches = prepared.batches(split.train, training=True)
            write_text(folder / "recipe.toml", recipe.to_toml())
        else:
            history = trainer.fit(batches, validation=validation, resume=resuming)
            flow = trainer.flow
    except InterruptedRunError as error:
        what = "stopped; trainings that ended are saved" if recipe.training.heal else "stopped and saved"
        raise InterruptedRunError(f"{what}; go on with: sounding resume {folder}") from error
    finally:
        found = found or trainer.findings
        for finding in found:
            events.append("finding", **finding.to_json())
    prepared = replace(prepared, findings=[*prepared.findings, *found])

    task = task.calibrated(network, prepared.inputs_of(split.validation), target[split.validation], split.validation)
    prepared = replace(prepared, task=task)
    say("comparing with simple models on the same rows")
    predictions = {
        part: task.predict(network, prepared.inputs_of(split.parts[part])) for part in ("validation", "test")
    }
    baselines = compare(
        task, prepared.table, prepared.schema, split, prepared.encoded, target, predictions["test"], recipe
    )
    judgement = verdict(task, predictions["test"], target[split.test], baselines)

    results = gather(prepared, network, history, predictions, baselines, judgement, run=folder, environment=facts)
    if players is None:
        speed = speed_of(network, task.loss, batches, history, recipe.training)
        results["speed"] = {"operations_per_second": speed.reached, "peak": speed.peak, "fraction": speed.fraction}
    else:  # the loss of a player says nothing of how good it is, and the weights of the end are kept
        results["best_epoch"] = None
    results["flow"] = flow
    results["snapshots"] = list({event["epoch"]: event for event in events if event["kind"] == "snapshot"}.values())
    results["seconds"] = round(time.perf_counter() - started, 2)
    _ship(prepared, network, results, folder / "model")
    write_text(folder / "results.json", json.dumps(results))
    write_report(folder)
    events.append("finished", metrics=results["metrics"])
    trainer.processes.wait()
    return Run(folder)


def _trainer(
    prepared: Prepared, network: nn.Module, folder: Path, players: Sequence[Player] | None, **options: Any
) -> Trainer:
    recipe, task = prepared.recipe, prepared.task
    return Trainer(
        network,
        players=players,
        loss=task.loss,
        units=lambda batch: float(len(batch.rows)),  # the losses of tasks are means over rows, whatever these weigh
        recipe=recipe.training,
        seed=recipe.seed,
        # the loss is measured anyway, without holding the outputs of all rows
        metrics=None if {task.monitor, *task.watched} == {"loss"} else task.validation_metrics,
        compact=task.compact,
        monitor=task.monitor,
        headline=task.headline,
        higher_is_better=task.higher_is_better,
        checkpoints=folder / "checkpoints",
        **options,
    )


class Snapshots:
    """What a task shows of its network after epochs 1, 2, 4, 8, ...: written as events, with the weights to keep."""

    def __init__(self, task: Task, network: nn.Module, players: Sequence[Player] | None, events: Events) -> None:
        self.task, self.network, self.players, self.events = task, network, players or (), events

    def __call__(self, record: StepRecord | EpochRecord) -> None:
        """An onlooker for the trainer."""
        if not isinstance(record, EpochRecord) or record.epoch & (record.epoch + 1):
            return
        with evaluating(self.network), ExitStack() as stack:
            for player in self.players:
                if player.average is not None:
                    stack.enter_context(player.average.applied_to(player.network))
            if (shown := self.task.snapshot(self.network)) is not None:
                self.events.append("snapshot", epoch=record.epoch + 1, **plain(shown))


def _healed(prepared: Prepared, folder: Path, events: Events, *, resuming: bool, **shown: Any) -> Training:
    """Train, and again with remedies of what was found, those that need another network included."""
    records = Records(_records_of(folder), resume=resuming)
    recipe, _ = begin(prepared.recipe, {}, records)
    split = prepared.split

    def train(recipe: Recipe) -> Training:
        changed = prepared.by(recipe)
        trainer = _trainer(changed, changed.network(), folder, None, **shown)
        done = trainer.attempt(changed.batches(split.train, training=True), changed.batches(split.validation))
        for finding in done.findings:
            events.append("finding", **finding.to_json())
        return replace(done, recipe=recipe)

    def keys(key: str) -> bool:
        is_fixed = prepared.beginning is not None and prepared.beginning.fixes_network
        return key.startswith("training." if is_fixed else ("training.", "network."))

    remedied = remedied_by(keys, lambda recipe: prepared.by(recipe).network())
    return heal(recipe, train, records, remedied=remedied, monitor=prepared.task.monitor, say=shown["say"])


def _records_of(folder: Path) -> Path:
    """Where a run that heals keeps the trainings that ended."""
    return folder / "checkpoints" / FOLDER


def _follow(prepared: Prepared, folder: Path, *, resuming: bool) -> Run:
    """What every process but the first does: train on its share, and wait for what the first makes of the run."""
    split = prepared.split
    network = prepared.network()
    players = prepared.task.players(network, prepared.recipe.training)
    trainer = _trainer(prepared, network, folder, players, progress=False)
    batches, validation = prepared.batches(split.train, training=True), prepared.batches(split.validation)
    trainer.fit(batches, validation=validation, resume=resuming)
    trainer.processes.wait()
    return Run(folder)


def _processes(recipe: Recipe) -> Processes:
    """Those that torchrun started, this one among them."""
    return join(find_device(recipe.training.device))[0]


def _facts(prepared: Prepared) -> dict[str, Any]:
    """What the bits of a run depend on besides its recipe."""
    facts = {} if prepared.beginning is None else prepared.beginning.facts()
    return {**environment(prepared.table.fingerprint()), **facts, **prepared.task.facts()}


def _prepared(
    processes: Processes,
    source: object,
    settings: Mapping[str, Any],
    test: object = None,
    *,
    kept: Path | None = None,
) -> Prepared:
    """Prepare in the first process, then in all others: with the recipe that it chose, and from the cache it filled.

    Raises:
        UserError: if a process reads other data than the first.
    """
    if processes.first:
        prepared = prepare(source, settings, test=test, kept=kept)
        processes.agreed([prepared.recipe.settings(), prepared.table.fingerprint()])
        return prepared
    recipe, fingerprint = processes.agreed(list[Any]())
    prepared = prepare(source, recipe, test=test, kept=kept)
    if prepared.table.fingerprint() != fingerprint:
        raise UserError(
            f"process {processes.rank} reads other data than process 0",
            "give all of them the same",
            file=prepared.table.name,
        )
    return prepared


def _precisions(prepared: Prepared) -> Sequence[str]:
    """What the plan may choose from: numbers, of which tables are made, have no more than three digits in bfloat16."""
    tabular = {block.form for block in prepared.schema.blocks()} <= {"numbers", "categories"}
    return ("float32",) if tabular or prepared.recipe.task == "regression" else ("float32", "bfloat16")


def _ship(prepared: Prepared, network: nn.Module, results: dict[str, Any], folder: Path) -> None:
    """Write the folder that is all a user of the model needs; it is there when it is whole."""
    files = {
        "network.safetensors": tensor_bytes({name: t.cpu().contiguous() for name, t in network.state_dict().items()}),
        "schema.json": json.dumps(prepared.schema.to_json()).encode(),
        "recipe.toml": prepared.recipe.to_toml().encode(),
        "card.json": json.dumps(card(results), indent=2).encode(),
    }
    if learned := prepared.task.learned():
        files["task.json"] = json.dumps(learned).encode()
    write_folder(folder, files)


def _changes(before: dict[str, Any], now: dict[str, Any], name: str, without_test: str = "") -> list[Finding]:
    """What differs from when the run began: other data are an error, another machine is a finding.

    without_test: the folder of the run, if no test rows were given and the recipe names none.
    """
    if before["data"] != now["data"]:
        test = f'; if it had test rows in memory, use sounding.resume("{without_test}", data, test=rows)'
        raise UserError(
            f"the data have changed since this run began ({before['data'][:12]} then, {now['data'][:12]} now)",
            "bring the old data back, or begin a new run" + test * bool(without_test),
            file=name,
        )
    differ = [f"{key} was {before[key]}, is {now.get(key)}" for key in before if before[key] != now.get(key)]
    if not differ:
        return []
    return [
        Finding(
            rule="other-environment",
            severity="warning",
            title=f"resumed, but not bit for bit: {'; '.join(differ)}",
            evidence={"before": before, "now": now},
            meaning="The result is right, but may differ in its last digits from that of an uninterrupted run.",
        )
    ]


def _begun(out: str | Path | None, again: bool) -> str:
    """The folder of the run that this launch of torchrun has begun, before its processes were started again; or none.

    again: whether torchrun says that they were; then even a run that is finished is this one.
    """
    folders = [] if not launch() else [Path(out)] if out is not None else sorted(Path("runs").glob("*"))
    for folder in folders:
        begun = (folder / "recipe.toml").is_file() and (folder / LAUNCH).is_file()
        ours = begun and (folder / LAUNCH).read_text(encoding="utf-8") == launch()
        if ours and (again or not (folder / "results.json").is_file()):
            return str(folder)
    return ""


def _new_folder(out: str | Path | None, name: str) -> Path:
    """The folder of a new run: the given one, or the next free `runs/NAME-NUMBER`."""
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    stem = re.sub(r"[^\w-]+", "-", Path(name).name.split(".")[0]).strip("-") or "run"
    Path("runs").mkdir(exist_ok=True)
    for number in itertools.count(1):
        folder = Path("runs") / f"{stem}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there is always another number")


def _refuse_taken(folder: Path) -> None:
    """Let a run begin in a folder that is empty, or was left before there was a recipe: nothing is lost there.

    Raises:
        UserError: if the folder holds anything else: no run ever writes over another.
    """
    if (folder / "recipe.toml").is_file() and not (folder / "results.json").is_file():
        raise UserError(
            "there is an unfinished run here",
            f"go on with it: sounding resume {folder}; or give another --out",
            file=folder,
        )
    halves = tuple(f".{name}." for name in BEFORE_THE_RECIPE | {"recipe.toml"})
    if any(path.name not in BEFORE_THE_RECIPE and not path.name.startswith(halves) for path in folder.iterdir()):
        raise UserError("this folder is not empty", "give another --out, or remove it first", file=folder)


def _silence(line: str) -> None:
    """Say nothing."""
