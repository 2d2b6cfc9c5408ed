"""Trainings that one process does, or several under torchrun; each leaves what it ends with in a folder.

`torchrun --nproc-per-node=2 _together.py FOLDER CASE...`
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sounding.batches import Batch, Batches
from sounding.training import History, Player, StepRecord, Trainer

ROWS, EPOCHS = 42, 4
"""Batches of 10 rows leave one of 2: with three processes one share of it is empty."""


class Touched(Batches):
    """Batches that remember which rows were gathered."""

    touched: list[int]

    def gather(self, rows: Tensor) -> Batch:
        self.touched += rows.tolist()
        return super().gather(rows)


def rows_of(count: int, *, weighted: bool = False, shuffle: bool = True, seed: int = 0) -> Touched:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, dtype=torch.float64, generator=draw)
    y = torch.stack([x[:, 0] * x[:, 1], x.sum(1).sin()], 1)
    weight = torch.rand(count, dtype=torch.float64, generator=draw).round(decimals=1) if weighted else None
    batches = Touched((x,), y, weight, batch_size=10, shuffle=shuffle)
    batches.touched = []
    return batches


class Partly(nn.Module):
    """A network with a parameter that the loss does not depend on."""

    def __init__(self, *middle: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), *middle, nn.Tanh(), nn.Linear(8, 2))
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def network_of(*middle: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    return Partly(*middle).double()


def metrics(outputs: Tensor, target: Tensor) -> dict[str, float]:
    return {"worst": (outputs - target).abs().max().item(), "first": (outputs[0] - target[0]).abs().sum().item()}


Outcome = tuple[nn.Module, History, Touched]


def fit(network: nn.Module, batches: Touched, *, resume: bool = False, **settings: Any) -> Outcome:
    settings = {"loss": "mse", "epochs": EPOCHS, "lr": 0.02, "seed": 5, "progress": False, **settings}
    trainer = Trainer(network, metrics=metrics, **settings)
    return network, trainer.fit(batches, rows_of(13, shuffle=False, seed=1), resume=resume), batches


def plain(folder: Path) -> Outcome:
    return fit(network_of(), rows_of(ROWS), optimizer="adamw", checkpoints=folder)


def weighted(folder: Path) -> Outcome:
    """Rows that count differently, some nothing; clipped gradients; batches in parts."""
    return fit(network_of(), rows_of(ROWS, weighted=True), optimizer="sgd", lr=0.5, clip_norm=0.2, accumulate=2)


def normalized(folder: Path) -> Outcome:
    """Batch norms, whose statistics are measured again for the averaged weights."""
    return fit(network_of(nn.BatchNorm1d(8)), rows_of(ROWS), optimizer="sgd", lr=0.2, averaging="swa")


def early(folder: Path) -> Outcome:
    """Soon worse on the rows that are held out."""
    return fit(network_of(), rows_of(20), optimizer="adamw", lr=0.1, epochs=60, patience=3)


class Noting(nn.Module):
    """Remembers what it draws at random."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("drawn", torch.zeros(5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.drawn = torch.rand(5, dtype=torch.float64)
        return x


def drawing(folder: Path) -> Outcome:
    return fit(network_of(Noting()), rows_of(ROWS), optimizer="sgd", epochs=1)


def players(folder: Path) -> Outcome:
    """Two sets of parameters, each with its own loss of the other's outputs."""
    torch.manual_seed(0)
    first, second = nn.Linear(4, 2).double(), nn.Linear(2, 2).double()
    batches = rows_of(ROWS)

    def miss(batch: Batch) -> Tensor:
        return (second(first(batch.inputs[0])) - batch.target).square().mean()

    def away(batch: Batch) -> Tensor:
        return (second(first(batch.inputs[0])) - 0.5 * batch.target).abs().mean()

    both = [
        Player("first", first, miss, torch.optim.SGD(first.parameters(), lr=0.1)),
        Player("second", second, away, torch.optim.SGD(second.parameters(), lr=0.1)),
    ]
    trainer = Trainer(players=both, epochs=EPOCHS, progress=False)
    return nn.ModuleList([first, second]), trainer.fit(batches, rows_of(13, shuffle=False)), batches


def sharded(folder: Path) -> Outcome:
    """FSDP2, with a batch norm and clipped gradients."""
    settings = {"optimizer": "adamw", "clip_norm": 0.2, "sharding": "full", "checkpoints": folder}
    return fit(network_of(nn.BatchNorm1d(8)), rows_of(ROWS), **settings)


def narrow(folder: Path) -> Outcome:
    """FSDP2 in the precision of everyday use, which goes other ways in PyTorch."""
    batches = rows_of(ROWS)
    assert batches.target is not None
    batches.inputs, batches.target = (batches.inputs[0].float(),), batches.target.float()
    trainer = Trainer(network_of().float(), loss="mse", epochs=EPOCHS, lr=0.1, sharding="full", progress=False)
    return trainer.network, trainer.fit(batches), batches


def stopped(folder: Path) -> Outcome:
    """As `sharded`, interrupted in the second epoch by a signal to the last process alone."""
    settings = {"optimizer": "adamw", "clip_norm": 0.2, "sharding": "full", "checkpoints": folder}
    last = os.environ.get("RANK", "0") == str(int(os.environ.get("WORLD_SIZE", "1")) - 1)

    def stop(record: object) -> None:
        if isinstance(record, StepRecord) and (record.epoch, record.step) == (1, 2) and last:
            os.kill(os.getpid(), signal.SIGTERM)

    return fit(network_of(nn.BatchNorm1d(8)), rows_of(ROWS), onlookers=[stop], **settings)


def resumed(folder: Path) -> Outcome:
    """What another number of processes may have begun."""
    settings = {"optimizer": "adamw", "clip_norm": 0.2, "sharding": "full", "checkpoints": folder}
    return fit(network_of(nn.BatchNorm1d(8)), rows_of(ROWS), resume=True, **settings)


CASES: dict[str, Callable[[Path], Outcome]] = {
    case.__name__: case
    for case in (plain, weighted, normalized, early, drawing, players, sharded, narrow, stopped, resumed)
}


def run(case: str, folder: Path) -> None:
    """Train; leave the weights and the story in FOLDER/CASE.RANK."""
    from sounding.errors import InterruptedRunError

    folder.mkdir(exist_ok=True)
    try:
        network, history, batches = CASES[case](folder / "checkpoints")
    except InterruptedRunError as error:
        (folder / f"{case}.{os.environ.get('RANK', '0')}.interrupted").write_text(str(error))
        return
    place = folder / f"{case}.{os.environ.get('RANK', '0')}"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, f"{place}.safetensors")
    story = {
        "losses": [record.train_loss for record in history],
        "validation": [record.validation for record in history],
        "best": history.best,
        "ending": history.ending,
        "findings": [finding.rule for finding in history.findings],
        "touched": batches.touched,
    }
    Path(f"{place}.json").write_text(json.dumps(story))


def outcome(case: str, folder: Path, rank: int = 0) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What was left."""
    place = folder / f"{case}.{rank}"
    return load_file(f"{place}.safetensors"), json.loads(Path(f"{place}.json").read_text())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for word in sys.argv[1:]:
        case, _, where = word.partition("=")
        run(case, Path(where))
