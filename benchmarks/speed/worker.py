"""One contender on one workload: `python -m benchmarks.speed.worker JOB`, where the job is JSON.

The last line of the output is JSON, too. Times are in seconds, memory in MiB.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.speed import contenders
from benchmarks.speed.workloads import WORKLOADS, read


def measure(contender: str, workload: str, data: str, epochs: int, seed: int, started: float) -> dict[str, Any]:
    """Train once, and tell what it took.

    started: `time.monotonic()` just before this process was started.
    """
    who = contenders.CONTENDERS[contender]
    os.environ.update(who.environment)
    module = import_module(f"benchmarks.speed.contenders.{who.module}")
    if "torch" in sys.modules:  # the first optimizer imports it: more than a second that is not training
        import_module("torch._dynamo")
    arrays = read(Path(data), workload)
    before = memory("VmRSS")
    forget_peak()
    ends: list[tuple[float, float]] = []
    job = contenders.Job(
        WORKLOADS[workload],
        arrays,
        epochs,
        seed,
        lambda predict: ends.append((time.perf_counter(), time.process_time())),
    )
    train = module.prepare(job, **who.options)
    training = time.monotonic()
    children_began, own_began, began = children_cpu_seconds(), time.process_time(), time.perf_counter()
    trained = train()
    wall, own = time.perf_counter() - began, time.process_time() - own_began
    cpu = own + children_cpu_seconds() - children_began
    peak = memory("VmHWM")
    marks = [(began, own_began), *ends]
    return {
        "wall": wall,
        "cpu": cpu,
        "epoch_wall": [end[0] - start[0] for start, end in pairwise(marks)],
        "epoch_cpu": [end[1] - start[1] for start, end in pairwise(marks)],
        "started": training - started,
        "peak": peak,
        "peak_above": peak - before,
        "losses": [float(loss) for loss in trained.losses],
        "held_out_loss": trained.held_out_loss(),
        "notes": trained.notes,
        "version": version(who.needs),
    }


def memory(name: str) -> float:
    """VmRSS (now) or VmHWM (the most there was) of this process in MiB; Linux alone tells."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def forget_peak() -> None:
    """Let VmHWM start from what is in use now."""
    Path("/proc/self/clear_refs").write_text("5")


def children_cpu_seconds() -> float:
    """CPU time of all processes below this one, running and ended ones: compilers work in some."""
    ticks, parents, spent = os.sysconf("SC_CLK_TCK"), dict[int, int](), dict[int, float]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        parents[int(entry.name)] = int(words[1])
        spent[int(entry.name)] = sum(map(int, words[11:15])) / ticks  # with that of its own ended children
    below, newer = set[int](), {os.getpid()}
    while newer:
        newer = {process for process, parent in parents.items() if parent in newer}
        below |= newer
    ended = os.times().children_user + os.times().children_system
    return ended + sum(spent[process] for process in below)


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
