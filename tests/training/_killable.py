"""Training that may be killed at any instant: the programs, and a server that starts, kills and starts them again.

The server imports everything once and computes nothing, so that a child which it forks is training after
milliseconds. It reads one attempt a line from standard input and answers with one line. Children that finish answer
with fingerprints of all that they end with.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.batches import Batch, Batches
from sounding.data.augmentation import Augmentation, Policy
from sounding.networks.convolutional import ConvolutionalNetwork, Standardize
from sounding.networks.feedforward import FeedForward
from sounding.networks.recurrent import RecurrentNetwork
from sounding.recipe import OptimizerRecipe, TrainingRecipe
from sounding.training import History, Player, StepRecord, Trainer
from sounding.training.checkpoint import TEMPORARY, load_newest
from sounding.training.clipping import Clipping
from sounding.watching.rules import RULES

BY_CHANCE = {"stale-lock", *(rule.name for rule in RULES)}
"""Findings that a run which was killed may have and others not: the watch sees what comes after it."""

Result = dict[str, str]
"""What is compared, by name: fingerprints of tensors, or JSON."""


@dataclass(kw_only=True)
class Attempt:
    """One process that trains, or goes on with what an earlier one left, and perhaps is killed."""

    work: str
    folder: str
    seed: int = 0
    every: float = 0.0
    """Seconds between checkpoints."""
    kill_after: float | None = None
    """Seconds from the start on."""
    kill_at_step: int | None = None
    """Of this attempt; 0 is before the first."""
    kill_when: str | None = None
    """As soon as there is this file or folder, of those that the run writes."""


@dataclass(kw_only=True)
class Outcome:
    """How an attempt ended."""

    killed: bool
    seconds: float
    steps: int
    """Done in this attempt."""
    result: Result = field(default_factory=dict)
    writing: bool = False
    """Whether it was killed while a checkpoint was being written."""
    failure: str = ""
    """The traceback, where it was not the kill that ended it."""


# The programs


def table(task: Attempt, count: Callable[[object], None]) -> Result:
    """Dropout, batch norm, an average of the weights, accumulated gradients; stopped early by a metric."""
    x, y = rows_of_numbers(task.seed, 160)
    torch.manual_seed(task.seed)
    network = FeedForward(6, 2, hidden_sizes=[16, 16], normalization="batch", dropout=0.3)
    trainer = Trainer(
        network,
        recipe=recipe(task, "adamw", 0.02, epochs=10, patience=3, averaging="ema", average_decay=0.9, accumulate=2),
        metrics=lambda outputs, target: {"accuracy": (outputs.argmax(1) == target).float().mean().item()},
        monitor="accuracy",
        maximize=True,
        **common(task, count),
    )
    history = trainer.fit((x[:128], y[:128]), (x[128:], y[128:]), resume=True)
    return ending(task, trainer, history, trainer.predict(x))


def pictures(task: Attempt, count: Callable[[object], None]) -> Result:
    """Every augmentation there is, mixing of examples included, and the mean of the weights over the last epochs."""
    generator = torch.Generator().manual_seed(task.seed)
    x = torch.randint(0, 256, (96, 3, 8, 8), dtype=torch.uint8, generator=generator)
    y = (x[:, 0].float().mean((1, 2)) > 127).long()
    torch.manual_seed(task.seed)
    network = nn.Sequential(
        Standardize([0.5] * 3, [0.3] * 3),
        ConvolutionalNetwork(3, 2, picture_size=(8, 8), hidden_sizes=(4, 8), depth=1),
    )
    policy = Policy(shift=0.125, flip=True, turn=10.0, colour=0.2)
    vary = Augmentation(policy, erase=0.5, mixup=0.2, cutmix=1.0, seed=task.seed, number_of_classes=2)
    batches = Batches((x[:72],), y[:72], batch_size=12, seed=task.seed, shuffle=True, transform=vary)
    trainer = Trainer(
        network,
        recipe=recipe(task, "nesterov", 0.05, epochs=8, channels_last=True, averaging="swa", average_start=0.4),
        **common(task, count),
    )
    history = trainer.fit(batches, (x[72:], y[72:]), resume=True)
    return ending(task, trainer, history, trainer.predict(x))


def text(task: Attempt, count: Callable[[object], None]) -> Result:
    """Sequences of different lengths through an LSTM."""
    draws = np.random.default_rng(task.seed)
    tokens = torch.from_numpy(draws.integers(1, 40, (96, 9)))
    tokens[torch.arange(9)[None, :] >= torch.from_numpy(draws.integers(1, 10, 96))[:, None]] = 0
    target = (tokens == 7).any(1).long()
    torch.manual_seed(task.seed)
    network = RecurrentNetwork(40, 2, cell="lstm", embedding_size=8, hidden_sizes=[8, 8], dropout=0.2)
    settings = recipe(task, "rmsprop", 0.01, epochs=7, patience=2, clip_norm=0.0, clip_percentile=70.0, warmup=0.2)
    trainer = Trainer(network, recipe=settings, **common(task, count))
    history = trainer.fit((tokens[:72], target[:72]), (tokens[72:], target[72:]), resume=True)
    return ending(task, trainer, history, trainer.predict(tokens))


def players(task: Attempt, count: Callable[[object], None]) -> Result:
    """A maker of rows from noise against a judge: both of a GAN, with draws in their losses."""
    x, _ = rows_of_numbers(task.seed, 96)
    torch.manual_seed(task.seed)
    maker = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 6))
    judge = nn.Sequential(nn.Linear(6, 12), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(12, 1))

    def made(batch: Batch) -> Tensor:
        made: Tensor = maker(torch.randn(len(batch.rows), 4))
        return made

    def judging(batch: Batch) -> Tensor:
        return F.softplus(judge(made(batch).detach())).mean() + F.softplus(-judge(batch.inputs[0])).mean()

    def making(batch: Batch) -> Tensor:
        return F.softplus(-judge(made(batch))).mean()

    team = [
        Player("judge", judge, judging, torch.optim.Adam(judge.parameters(), 0.01, betas=(0.5, 0.9))),
        Player(
            "maker",
            maker,
            making,
            torch.optim.Adam(maker.parameters(), 0.01, betas=(0.5, 0.9)),
            clipping=Clipping(percentile=60.0),
        ),
    ]
    trainer = Trainer(players=team, recipe=recipe(task, "adam", 0.01, epochs=8), **common(task, count))
    history = trainer.fit((x[:72], x[:72, 0]), (x[72:], x[72:, 0]), resume=True)
    with torch.no_grad():
        return ending(task, trainer, history, maker(torch.ones(5, 4)))


def healing(task: Attempt, count: Callable[[object], None]) -> Result:
    """A learning rate far too high, and the trainings with other ones that come after it."""
    x, y = rows_of_numbers(task.seed, 160)
    torch.manual_seed(task.seed)
    network = FeedForward(6, 2, hidden_sizes=[16], dropout=0.1)
    settings = recipe(task, "adamw", 30.0, epochs=4, heal=True, heal_attempts=2)
    trainer = Trainer(network, recipe=settings, **common(task, count))
    history = trainer.fit((x[:100], y[:100]), (x[100:], y[100:]), resume=True)
    return {
        "weights": fingerprint(network.state_dict()),
        "history": json.dumps([{**record._asdict(), "seconds": 0} for record in history]),
        "recipe": str(trainer.recipe),
        "findings": json.dumps([finding.to_json() for finding in trainer.findings]),
    }


def house(task: Attempt, count: Callable[[object], None]) -> Result:
    """The command line from a file to the report; with a cache for the encoded columns that is written to."""
    from sounding import cli
    from sounding.data import cache

    folder = Path(task.folder)
    os.environ["SOUNDING_CACHE"] = str(folder / "cache")
    cache.WORTH_SECONDS = 0.0
    source, out = folder / "flowers.csv", folder / "run"
    if not source.is_file():
        write_flowers(source, task.seed)
    if (out / "recipe.toml").is_file():
        words = ["resume", str(out)]
    else:  # not begun, or killed before there was anything to go on with
        words = ["fit", str(source), "--target", "kind", "--out", str(out), "--epochs", "4"]
        settings = ["evaluation.bootstrap=20", "training.plan=given", "training.threads=1", "training.batch_size=16"]
        words += [word for text in (*settings, f"training.checkpoint_every={task.every}") for word in ("--set", text)]
    if cli.main([*words, "--quiet"]) != 0:
        raise RuntimeError(f"failed: sounding {' '.join(words)}")
    results = json.loads((out / "results.json").read_text())
    return {
        "model": hashlib.sha256((out / "model" / "network.safetensors").read_bytes()).hexdigest(),
        **{name: json.dumps(results[name], sort_keys=True) for name in ("metrics", "intervals", "epochs")},
        "baseline": json.dumps({name: simple["test"] for name, simple in results["baseline"].items()}),
        # Of the kills themselves, only the lock that was left behind may be noticed.
        "findings": json.dumps(sorted({finding["rule"] for finding in results["findings"]} - BY_CHANCE)),
    }


PROGRAMS = {
    "table": table,
    "pictures": pictures,
    "text": text,
    "players": players,
    "healing": healing,
    "house": house,
}
TRAINERS = ("table", "pictures", "text", "players")


def recipe(task: Attempt, optimizer: str, lr: float, **settings: Any) -> TrainingRecipe:
    given: dict[str, Any] = {"batch_size": 12, "patience": 0, "schedule": "cosine", "keep_best": True} | settings
    return TrainingRecipe(optimizer=OptimizerRecipe(name=optimizer, lr=lr), checkpoint_every=task.every, **given)


def common(task: Attempt, count: Callable[[object], None]) -> dict[str, Any]:
    return {"seed": task.seed, "checkpoints": task.folder, "progress": False, "onlookers": [count]}


def rows_of_numbers(seed: int, count: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()


def write_flowers(path: Path, seed: int) -> None:
    draws = np.random.default_rng(seed)
    lines = ["petal,colour,kind"]
    for kind in draws.integers(2, size=160):
        colour = ("red", "blue")[draws.integers(2)]
        lines.append(f"{draws.normal(2 + kind):.3f},{colour},{('rose', 'iris')[kind]}")
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".unfinished")  # it is only the source that must not be half
    unfinished.write_text("\n".join(lines) + "\n")
    unfinished.replace(path)


def ending(task: Attempt, trainer: Trainer, history: History, outputs: Tensor) -> Result:
    """Everything that must be the same as without a kill."""
    found = load_newest(Path(task.folder))
    assert found is not None
    return {
        "weights": fingerprint(trainer.network.state_dict()),
        "predictions": fingerprint({"outputs": outputs}),
        **{f"checkpoint: {name}": fingerprint(group) for name, group in found.tensors.items()},
        "position": json.dumps(found.state["position"]),
        "history": json.dumps([{**record._asdict(), "seconds": 0} for record in history]),
        "ending": f"{history.ending}; best {history.best}; {[finding.rule for finding in history.findings]}",
    }


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


# The server


def serve() -> None:
    """Answer attempts with outcomes until there are no more."""
    import torch._dynamo  # optimizers import it when the first one is made

    from sounding import cli, fitting  # noqa: F401  (for the children)

    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(asdict(carry_out(Attempt(**json.loads(line))))), flush=True)


def carry_out(task: Attempt) -> Outcome:
    """Fork a child for it, and kill the child when it is time."""
    progress = mmap.mmap(-1, 8)  # shared with the child: the steps that it has done
    reader, writer = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        work_in_child(task, progress, writer)
    os.close(writer)
    try:
        killed = wait_for_the_time(task, progress, reader, began)
        if killed:
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reader, "rb") as answers:
            answer = answers.read()
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done = status == 0
    return Outcome(
        killed=status == -signal.SIGKILL,
        seconds=time.monotonic() - began,
        steps=int.from_bytes(progress[:8], "little"),
        result=json.loads(answer) if done else {},
        failure="" if done or killed else f"{task} ended with {status}: {answer.decode()}",
        writing=any(Path(task.folder).rglob(f"{TEMPORARY}*")),
    )


def work_in_child(task: Attempt, progress: mmap.mmap, writer: int) -> NoReturn:
    def count(record: object) -> None:
        if isinstance(record, StepRecord):
            progress[:8] = (int.from_bytes(progress[:8], "little") + 1).to_bytes(8, "little")

    try:
        answer, status = json.dumps(PROGRAMS[task.work](task, count)), 0
    except BaseException:  # noqa: BLE001  (whoever asked raises it again)
        answer, status = traceback.format_exc(), 1
    os.write(writer, answer.encode())
    os._exit(status)


def wait_for_the_time(task: Attempt, progress: mmap.mmap, reader: int, began: float) -> bool:
    """Whether the time to kill came before the end."""
    awaits = task.kill_at_step is not None or task.kill_when is not None
    while True:
        if task.kill_at_step is not None and int.from_bytes(progress[:8], "little") >= task.kill_at_step:
            return True
        if task.kill_when is not None and (Path(task.folder) / task.kill_when).exists():
            return True
        patience = None if task.kill_after is None else max(began + task.kill_after - time.monotonic(), 0.0)
        ended, _, _ = select.select([reader], [], [], 0.0005 if awaits else patience)
        if ended:
            return False
        if not awaits:
            return True


class Server:
    """The server, from outside."""

    def __init__(self) -> None:
        source = str(Path(__file__).parents[2] / "src")
        environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def attempt(self, work: str, folder: Path, **how: Any) -> Outcome:
        """Train, or go on; return when it has ended or was killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(Attempt(work=work, folder=str(folder), **how))), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server died; it says above of what")
        outcome = Outcome(**json.loads(line))
        if outcome.failure:
            raise RuntimeError(outcome.failure)
        return outcome

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def server() -> Iterator[Server]:
    """A server that is ended."""
    running = Server()
    try:
        yield running
    finally:
        running.close()


def kill_at_random(
    running: Server, work: str, folder: Path, draws: random.Random, *, kills: int, seconds: float, seed: int = 0
) -> tuple[list[Outcome], Result]:
    """Kill a run so many times, unless it ends before, and let it end: the kills, and what it ended with.

    seconds: how long a run takes that is left alone. Each kill comes within the first half of it.
    """
    outcomes = []
    for _ in range(kills):
        every = draws.choice([0.0, 0.0, 0.01])
        after = draws.uniform(0.0, seconds / 2)
        outcome = running.attempt(work, folder, seed=seed, every=every, kill_after=after)
        if not outcome.killed:
            return outcomes, outcome.result
        outcomes.append(outcome)
    return outcomes, running.attempt(work, folder, seed=seed).result


def differences(expected: Result, found: Result) -> list[str]:
    """The names of what is not the same."""
    return [name for name in {**expected, **found} if expected.get(name) != found.get(name)]


if __name__ == "__main__":
    serve()
