"""What healing mends: trainings with one setting far off, the same healed, and their twins without the fault.

    python -m benchmarks.healing [--seeds 0,1,2] [--cases NAME,NAME] [--json FILE] [--list]

Measured on rows that neither training nor healing saw: the share of the loss of ignoring the inputs that is gone, 0
where nothing is learned. So a loss of a million counts no more than one of knowing nothing. A fault is mended where
healing closes 95 % of the gap to the twin of the same seed; where the twin is hardly better, the fault is harmless and
told apart. Healthy trainings have to come out bit for bit. Some faults are such as no rule of the watch looks for.
With `--json` every training is written down as soon as it is measured, and one that is there already is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sounding
from benchmarks.watch import data
from benchmarks.watch.data import Data, Source
from benchmarks.watch.measure import Share
from benchmarks.watch.networks import Recurrent, convolutional, deep_convolutional, dense
from sounding.errors import DivergedError
from sounding.finding import Finding
from sounding.training import Trainer

MARGIN = 0.05
"""By which the twin has to be better, lest the fault counts as harmless."""
MENDED = 0.95
"""Of the gap to the twin."""
VALIDATION = 0.2
"""Of the training rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A training without a fault: by the trainer, or by `sounding.fit`, which builds the network itself."""

    data: Source
    network: Callable[[], nn.Module] | None = None
    loss: str = "cross_entropy"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of the trainer; for `sounding.fit`, keys of the recipe."""


def fitted(source: Source, **options: Any) -> Program:
    """A program of `sounding.fit` with a feed-forward network."""
    shape = {"network.name": "feedforward", "network.options": {"hidden_sizes": [64, 64], "dropout": 0.1} | options}
    training = {"training.epochs": 30, "training.batch_size": 64, "training.patience": 16, "training.plan": "given"}
    return Program(data=source, settings={**shape, **training, "data.validation": VALIDATION})


def plain(source: Source, *sizes: int, loss: str = "cross_entropy", **settings: Any) -> Program:
    """A program of the trainer with linear layers."""
    usual = {"lr": 3e-3, "epochs": 20, "batch_size": 32}
    return Program(data=source, network=lambda: dense(*sizes), loss=loss, settings={**usual, **settings})


def long_memory(features: int, width: int, outputs: int) -> nn.Module:
    """A recurrent network of ReLU that begins by adding up what it reads: Le, Jaitly and Hinton 2015."""
    network = Recurrent(nn.RNN, features, width, outputs, nonlinearity="relu")
    nn.init.eye_(network.core.get_parameter("weight_hh_l0"))
    return network


PROGRAMS = {
    "digits": plain(data.flat_digits, 64, 64, 32, 10),
    "pictures": Program(data=data.digits, network=convolutional, settings={"lr": 3e-3, "epochs": 10, "batch_size": 64}),
    "cancer": plain(data.cancer, 30, 32, 2),
    "wine": plain(data.wine, 13, 32, 3, epochs=40),
    "diabetes": plain(data.diabetes, 10, 64, 64, 1, loss="mse", lr=1e-3, epochs=40),
    "machines": plain(data.scaled_machines, 10, 64, 64, 1, loss="mse"),
    "moons": plain(data.moons, 2, 32, 32, 2, optimizer="sgd", lr=0.3, epochs=40),
    "table": plain(data.table, 20, 128, 128, 4, lr=1e-3),
    "rhythms": Program(
        data=data.signs,
        network=lambda: long_memory(1, 32, 3),
        settings={"optimizer": "sgd", "lr": 0.1, "epochs": 15, "batch_size": 32},
    ),
    "textures": Program(
        data=data.textures, network=deep_convolutional, settings={"lr": 1e-2, "epochs": 10, "batch_size": 32}
    ),
    "circles": plain(data.circles, 2, 16, 16, 2, lr=1e-2),
    "blobs": plain(data.blobs, 2, 16, 3),
    "waves": plain(data.waves, 1, 64, 64, 1, loss="mse"),
    "line": plain(data.linear_table, 12, 32, 1, loss="mse", optimizer="sgd", lr=0.03),
    "fit-table": fitted(data.table),
    "fit-digits": fitted(data.flat_digits),
    "fit-deep": fitted(data.flat_digits, hidden_sizes=[64] * 6),
    "fit-cancer": fitted(data.cancer),
}
FIRST: dict[str, tuple[str, dict[str, Any]]] = {
    "adam-30": ("digits", {"lr": 30.0}),
    "adam-0.3": ("table", {"lr": 0.3}),
    "adam-pictures-1": ("pictures", {"lr": 1.0}),
    "adam-wine-10": ("wine", {"lr": 10.0}),
    "sgd-100": ("moons", {"lr": 100.0}),
    "sgd-diverging": ("machines", {"optimizer": "sgd", "lr": 1.0, "clip_norm": 0.0}),
    "sgd-diverging-500": ("diabetes", {"optimizer": "sgd", "lr": 500.0, "clip_norm": 0.0}),
    "adam-1e-6": ("digits", {"lr": 1e-6}),
    "adam-1e-5": ("cancer", {"lr": 1e-5}),
    "adam-pictures-1e-6": ("pictures", {"lr": 1e-6}),
    "sgd-1e-4": ("moons", {"lr": 1e-4}),
    "weight-decay-30": ("machines", {"weight_decay": 30.0}),
    "weight-decay-100": ("digits", {"weight_decay": 100.0}),
    "l2-3": ("digits", {"l2": 3.0}),
    "l1-0.1": ("pictures", {"l1": 0.1}),
    "no-patience": ("diabetes", {"patience": 0, "epochs": 150}),
    "no-patience-table": ("table", {"patience": 0, "epochs": 60}),
    "one-epoch": ("digits", {"epochs": 1}),
    "one-epoch-machines": ("machines", {"epochs": 1}),
    "two-epochs": ("pictures", {"epochs": 2}),
    "all-rows-a-batch": ("digits", {"batch_size": 0}),
    "no-clipping": ("rhythms", {"clip_norm": 0.0}),
    "clipped-at-1e-4": ("moons", {"clip_norm": 1e-4}),
    "slow-average": ("cancer", {"averaging": "ema", "average_decay": 0.9999}),
    "noise-5": ("machines", {"noise": 5.0}),
    "dropout-0.9": ("fit-table", {"network.options": {"hidden_sizes": [64, 64], "dropout": 0.9}}),
    "sigmoid-depth": (
        "fit-deep",
        {"network.options": {"hidden_sizes": [64] * 6, "dropout": 0.1, "activation": "sigmoid"}},
    ),
    "label-smoothing-0.9": ("fit-digits", {"training.label_smoothing": 0.9}),
    "narrow": ("fit-digits", {"network.options": {"hidden_sizes": [2, 2], "dropout": 0.1}}),
    "fit-rate-10": ("fit-table", {"training.optimizer.lr": 10.0}),
}
"""By name: the program, and what was set instead. Healing was mended by what these showed ..."""
SECOND: dict[str, tuple[str, dict[str, Any]]] = {
    "textures-adam-3": ("textures", {"lr": 3.0}),
    "textures-adam-1e-6": ("textures", {"lr": 1e-6}),
    "textures-one-epoch": ("textures", {"epochs": 1}),
    "circles-sgd-1e-3": ("circles", {"optimizer": "sgd", "lr": 1e-3}),
    "circles-one-epoch": ("circles", {"epochs": 1}),
    "blobs-adam-100": ("blobs", {"lr": 100.0}),
    "blobs-adam-1e-5": ("blobs", {"lr": 1e-5}),
    "waves-sgd-diverging": ("waves", {"optimizer": "sgd", "lr": 5.0, "clip_norm": 0.0}),
    "waves-weight-decay-10": ("waves", {"weight_decay": 10.0}),
    "waves-two-epochs": ("waves", {"epochs": 2}),
    "line-sgd-1": ("line", {"lr": 1.0, "clip_norm": 0.0}),
    "line-l2-30": ("line", {"l2": 30.0}),
    "machines-no-patience": ("machines", {"patience": 0, "epochs": 150, "lr": 1e-2}),
    "fit-cancer-dropout": ("fit-cancer", {"network.options": {"hidden_sizes": [64, 64], "dropout": 0.95}}),
    "fit-cancer-rate-1e-6": ("fit-cancer", {"training.optimizer.lr": 1e-6}),
}
"""... and not by these, which were written down afterwards."""
FAULTS = FIRST | SECOND


@dataclass(frozen=True, slots=True)
class Ran:
    """One training, healed or not."""

    metric: float
    """The share of the loss of ignoring the inputs that is gone on rows never seen."""
    weights: str
    """A digest."""
    seconds: float = 0.0
    """Of the processor."""
    kept: Sequence[str] = ()
    """The remedies that helped, as words ..."""
    tried: int = 0
    """... of so many."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A training with a fault, healed, and without the fault; a healthy one has no twin."""

    name: str
    seed: int
    faulty: Ran
    healed: Ran
    fixed: Ran | None = None

    @property
    def gap(self) -> float:
        return 0.0 if self.fixed is None else self.fixed.metric - self.faulty.metric

    @property
    def kind(self) -> str:
        return "healthy" if self.fixed is None else "faulty" if self.gap >= MARGIN else "harmless"

    @property
    def closed(self) -> float:
        """The share of the gap that healing closed."""
        return (self.healed.metric - self.faulty.metric) / self.gap if self.kind == "faulty" else math.nan

    @property
    def is_worse(self) -> bool:
        return self.healed.metric < self.faulty.metric

    @property
    def cost(self) -> float:
        """In multiples of the training without healing."""
        return self.healed.seconds / self.faulty.seconds

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Measured:
        runs = {key: Ran(**values[key]) for key in ("faulty", "healed", "fixed") if values[key] is not None}
        return cls(values["name"], values["seed"], **runs)


def run(program: Program, seed: int, changes: Mapping[str, Any], *, heal: bool) -> Ran:
    """Train with some settings changed, and measure."""
    rows, began = program.data(seed), time.process_time()
    settings, by = {**program.settings, **changes}, _trained if program.network is not None else _fitted
    loss, weights, findings = by(program, rows, settings, seed, heal=heal)
    outcomes = [one for one in findings if one.rule in {"healed", "not-healed"}]
    return Ran(
        metric=explained(loss, rows),
        weights=weights,
        seconds=time.process_time() - began,
        kept=[in_words(one) for one in outcomes if one.rule == "healed"],
        tried=len(outcomes),
    )


def in_words(outcome: Finding) -> str:
    changes = ", ".join(f"{key.split('.')[-1]}={value}" for key, value in outcome.evidence["changes"].items())
    return f"{changes} ({outcome.evidence['answers']})"


def _trained(
    program: Program, rows: Data, settings: dict[str, Any], seed: int, *, heal: bool
) -> tuple[float, str, Sequence[Finding]]:
    assert program.network is not None
    torch.manual_seed(seed)
    trainer = Trainer(program.network(), loss=program.loss, seed=seed, heal=heal, progress=False, **settings)
    first = round(len(rows.x) * (1 - VALIDATION))
    try:
        trainer.fit((rows.x[:first], rows.y[:first]), validation=(rows.x[first:], rows.y[first:]))
        outputs = trainer.predict(rows.held_x)
        loss = (F.cross_entropy if program.loss == "cross_entropy" else F.mse_loss)(outputs, rows.held_y).item()
    except DivergedError:
        loss = math.inf
    digest = hashlib.sha256()
    for tensor in trainer.network.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return loss, digest.hexdigest(), trainer.findings


def _fitted(
    program: Program, rows: Data, settings: dict[str, Any], seed: int, *, heal: bool
) -> tuple[float, str, Sequence[Finding]]:
    table, test = (_frame(x, y) for x, y in ((rows.x, rows.y), (rows.held_x, rows.held_y)))
    settings = {**settings, "training.heal": heal, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        try:
            done = sounding.fit(table, "label", test=test, settings=settings, out=out, say=None, progress=False)
        except DivergedError:
            return math.inf, "", []
        weights = hashlib.sha256((out / "model" / "network.safetensors").read_bytes()).hexdigest()
        findings = [Finding.from_json(one) for one in done.results["findings"]]
        return done.results["metrics"]["test"]["log_loss"], weights, findings


def _frame(x: Tensor, y: Tensor) -> pd.DataFrame:
    """Rows as a table, with classes as words."""
    table = pd.DataFrame(x.numpy(), columns=[f"x{column}" for column in range(x.shape[1])])
    return table.assign(label=[f"class {number}" for number in y.tolist()])


def explained(loss: float, rows: Data) -> float:
    """The share of the loss of ignoring the inputs that is gone: R², for classes McFadden's; at least 0."""
    if rows.y.is_floating_point():
        ignoring = F.mse_loss(rows.y.mean(0).expand_as(rows.held_y), rows.held_y).item()
    else:
        frequencies = rows.y.bincount() / len(rows.y)
        ignoring = F.nll_loss(frequencies.log().expand(len(rows.held_y), -1), rows.held_y).item()
    return max(1 - loss / ignoring, 0.0) if math.isfinite(loss) else 0.0


def measure(name: str, seed: int) -> Measured:
    """One fault, or one healthy program, with one seed."""
    program, changes = (name, {}) if name in PROGRAMS else FAULTS[name]
    faulty, healed = (run(PROGRAMS[program], seed, changes, heal=heal) for heal in (False, True))
    return Measured(name, seed, faulty, healed, run(PROGRAMS[program], seed, {}, heal=False) if changes else None)


def report(measured: Sequence[Measured]) -> str:
    """A table of the faults, and the figures."""
    unhealthy = [one for one in measured if one.kind != "healthy"]
    faulty = [one for one in unhealthy if one.kind == "faulty"]
    healthy = [one for one in measured if one.kind == "healthy"]
    lines = ["| fault | seed | faulty | healed | fixed | gap closed | cost | kept |", "|---" * 8 + "|"]
    for one in sorted(unhealthy, key=lambda one: (one.kind, one.name, one.seed)):
        closed = "harmless" if one.kind == "harmless" else f"{one.closed:.0%}"
        metrics = " | ".join(f"{ran.metric:.3f}" for ran in (one.faulty, one.healed, one.fixed) if ran is not None)
        kept = "; ".join(one.healed.kept) or f"nothing of {one.healed.tried}"
        lines.append(f"| {one.name} | {one.seed} | {metrics} | {closed} | {one.cost:.1f} | {kept} |")
    second, costs = [one for one in faulty if one.name in SECOND], [one.cost for one in faulty]
    return "\n".join(
        [
            *lines,
            "",
            f"mended, 95 % of the gap: {Share(sum(one.closed >= MENDED for one in faulty), len(faulty))}",
            f"of them in the second part: {Share(sum(one.closed >= MENDED for one in second), len(second))}",
            f"four fifths of the gap: {Share(sum(one.closed >= 0.8 for one in faulty), len(faulty))}",
            f"worse than before: {Share(sum(one.is_worse for one in unhealthy), len(unhealthy))}"
            + "".join(f"; {one.name} {one.seed}" for one in unhealthy if one.is_worse),
            f"healthy and the same bits: {Share(sum(map(is_untouched, healthy)), len(healthy))}"
            + "".join(f"; not {one.name} {one.seed}" for one in healthy if not is_untouched(one)),
            f"cost in trainings, median: {median(costs) if costs else math.nan:.1f}",
        ]
    )


def is_untouched(one: Measured) -> bool:
    return one.healed.weights == one.faulty.weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--cases", default="", help="names of faults and of healthy programs, with commas between them")
    parser.add_argument("--json", type=Path, help="a line for each training; those that are there are not run again")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    names = options.cases.split(",") if options.cases else [*FAULTS, *PROGRAMS]
    if options.list:
        print("\n".join(names))
        return
    torch.set_num_threads(1)
    lines = options.json.read_text().splitlines() if options.json is not None and options.json.exists() else []
    known = {(one.name, one.seed): one for one in (Measured.from_json(json.loads(line)) for line in lines)}
    measured = []
    for seed in map(int, options.seeds.split(",")):
        for name in names:
            if (one := known.get((name, seed))) is None:
                one = measure(name, seed)
                if options.json is not None:
                    with options.json.open("a") as file:
                        file.write(json.dumps(asdict(one)) + "\n")
            measured.append(one)
            fixed = f" fixed {one.fixed.metric:.3f} closed {one.closed:.0%}" if one.fixed is not None else ""
            print(
                f"{one.kind:8} {name:20} {seed} faulty {one.faulty.metric:.3f} healed {one.healed.metric:.3f}{fixed} "
                f"cost {one.cost:.1f}: {'; '.join(one.healed.kept) or 'nothing'} of {one.healed.tried}",
                flush=True,
            )
    print("\n" + report(measured))


if __name__ == "__main__":
    main()
