"""All contenders on all workloads, in turns, each run in a process of its own.

    python -m benchmarks.speed [--workloads a,b] [--contenders x,y] [--rounds 5] [--epochs-scale 1.0]
                               [--peers-python PATH] [--data DIR] [--raw FILE] [--resume] [--write]

The peers live in an environment of their own, made from benchmarks/requirements-peers.lock; `--peers-python`, or the
variable SOUNDING_PEERS_PYTHON, names its interpreter. What is not installed there is told as not run. Every run is
appended to the raw file as a line of JSON; `--resume` goes on with what is there, and `--rounds 0 --resume` only makes
the tables again. With `--write` they go to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.table import report
from benchmarks.speed.table import write as write_report
from benchmarks.speed.workloads import WORKLOADS, Workload, write

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 3600
"""Seconds after which a run is given up."""


def main() -> None:
    options = arguments()
    raw: Path = options.raw
    if not options.resume:
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_text("")
    lines = [json.loads(line) for line in raw.read_text().splitlines()]
    facts = next((line for line in reversed(lines) if "machine" in line), None)
    done = [line for line in lines if "contender" in line and "error" not in line]
    if facts is None:
        facts = machine(options)
        append(raw, facts)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        if options.rounds:
            write(data, options.workloads, options.data, options.batches)
        for turn in range(options.rounds):
            for name in options.workloads:
                at = turn % len(options.contenders)  # nobody always goes first
                for contender in [*options.contenders[at:], *options.contenders[:at]]:
                    where = {"round": turn, "workload": name, "contender": contender}
                    if any(where.items() <= run.items() for run in done):
                        continue
                    run = {**where, **measure(WORKLOADS[name], contender, data, turn, options)}
                    done.append(run)
                    append(raw, run)
                    print(told(run), file=sys.stderr, flush=True)
    text = report(done, facts)
    print(text)
    if options.write:
        write_report(ROOT / "benchmarks" / "RESULTS.md", text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", type=names_of(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--contenders", type=names_of(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs-scale", type=float, default=1.0)
    parser.add_argument("--batches", type=int, default=0, help="cut each epoch to so many; 0 leaves it whole")
    parser.add_argument("--threads", type=int, default=0, help="for every process; 0 leaves each its own default")
    parser.add_argument("--peers-python", default=os.environ.get("SOUNDING_PEERS_PYTHON", sys.executable))
    parser.add_argument("--data", type=Path, default=os.environ.get("SOUNDING_DATA"), help="the public data sets")
    parser.add_argument("--raw", type=Path, default=ROOT / "runs" / "speed.jsonl")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/RESULTS.md")
    return parser.parse_args()


def names_of(known: dict[str, Any]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        return names

    return parse


def measure(workload: Workload, contender: str, data: Path, turn: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run; caches are cold, as they are for someone who trains a network for the first time."""
    python = options.peers_python if CONTENDERS[contender].peer else sys.executable
    with tempfile.TemporaryDirectory() as cache:
        job = {
            "contender": contender,
            "workload": workload.name,
            "data": str(data),
            "epochs": max(1, round(workload.epochs * options.epochs_scale)),
            "seed": turn,
            "started": time.monotonic(),
        }
        return run(python, "benchmarks.speed.worker", json.dumps(job), cache=cache, threads=options.threads)


def run(python: str, module: str, *words: str, cache: str, threads: int) -> dict[str, Any]:
    """What a module says in its last line, or `error` and why it says nothing."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    environment.update(PYTHONPATH=os.environ.get("PYTHONPATH", str(ROOT / "src")), HF_HUB_OFFLINE="1")
    environment.update(
        SOUNDING_CACHE=f"{cache}/sounding",
        XDG_CACHE_HOME=cache,
        TORCHINDUCTOR_CACHE_DIR=f"{cache}/inductor",
        KERAS_HOME=f"{cache}/keras",
    )
    try:
        ended = subprocess.run(
            [python, "-m", module, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {"error": f"more than {LIMIT} s"}
    if ended.returncode:
        return {"error": ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else f"{ended.returncode}"}
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers depend on, the matrix peak, and the overhead of a step."""
    info = Path("/proc/cpuinfo").read_text()
    model = next(line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name"))
    units = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name} " in f"{info} "]
    with tempfile.TemporaryDirectory() as cache:
        found = {
            "date": f"{date.today():%-d %B %Y}",
            "machine": f"{os.cpu_count()} CPU cores ({model}; {', '.join(units)}), load {os.getloadavg()[0]:.1f}",
            "python": platform.python_version(),
            "batches": {name: min(options.batches or w.batches, w.batches) for name, w in WORKLOADS.items()},
        }
        for name in ("peak", "overhead"):
            answer = run(sys.executable, f"benchmarks.speed.{name}", cache=cache, threads=options.threads)
            if "error" in answer:
                print(f"{name}: {answer['error']}", file=sys.stderr)
            else:
                found[name] = answer
    return found


def append(raw: Path, line: dict[str, Any]) -> None:
    with raw.open("a") as file:
        file.write(json.dumps(line) + "\n")


def told(run: dict[str, Any]) -> str:
    where = f"{run['round']} {run['workload']} {run['contender']}"
    if "error" in run:
        return f"{where}: {run['error']}"
    epochs = len(run["losses"])
    return (
        f"{where}: {run['wall'] / epochs:.3f} s an epoch ({run['cpu'] / epochs:.3f} CPU), {epochs} epochs in "
        f"{run['wall']:.1f} s, start {run['started']:.1f} s, {run['peak_above']:.0f} MiB, loss {run['losses'][-1]:.4g} "
        f"/ {run['held_out_loss']:.4g} {run['notes'] or ''}"
    )


if __name__ == "__main__":
    main()
