"""Faults found, causes named, and alarms on healthy programs: the watch on many small training programs.

    python -m benchmarks.watch [--cases id,id] [--part tune|report] [--group faulty|healthy] [--seeds 0,1] [--json FILE]
    python -m benchmarks.watch --unwatched      the programs alone: do faults harm, do healthy ones learn?
    python -m benchmarks.watch --overhead       CPU time of watching them
    python -m benchmarks.watch --workloads lstm,resnet [--rounds 3] [--epochs-scale 0.4]    ... longer training
    python -m benchmarks.watch --list

Each faulty program has a twin without the fault; twins and further healthy programs must raise no alarm. With `--json`
every program is written down as soon as it is measured, and one that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.speed.workloads import WORKLOADS
from benchmarks.watch.cases import FAULTY, HEALTHY
from benchmarks.watch.cases.case import Family
from benchmarks.watch.measure import Measured, run
from benchmarks.watch.overhead import ROUNDS, overhead, workloads
from benchmarks.watch.programs import Run
from benchmarks.watch.report import report


@dataclass(frozen=True, kw_only=True)
class Job:
    """One program to be measured."""

    id: str
    kind: str
    family: Family
    program: Run
    floor: float
    causes: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        return "faulty" if self.causes else "healthy"


def twins() -> dict[str, str]:
    """By the id of a faulty program, that of its twin: one that several share has the name of the first."""
    names: dict[int, str] = {}
    return {case.id: names.setdefault(id(case.fixed), f"{case.id}-fixed") for case in FAULTY}


def jobs() -> Iterator[Job]:
    """All programs; a twin that several share comes once."""
    names = twins()
    for case in FAULTY:
        shared = {"family": case.family, "floor": case.floor}
        kind = "harmless" if case.harmless else "faulty"
        yield Job(id=case.id, kind=kind, program=case.faulty, causes=case.causes, **shared)
        if names[case.id] == f"{case.id}-fixed":
            yield Job(
                id=names[case.id], kind="fixed" if case.twin_is_healthy else "flawed", program=case.fixed, **shared
            )
    for healthy in HEALTHY:
        yield Job(id=healthy.id, kind="healthy", family=healthy.family, program=healthy.program, floor=healthy.floor)


def measure(job: Job, seed: int, *, is_watched: bool) -> Measured:
    result = run(job.program, seed, is_watched=is_watched)
    return Measured(
        **{"id": job.id, "kind": job.kind, "part": job.family.part, "source": job.family.source, "causes": job.causes},
        **{"floor": job.floor, "seed": seed, **result._asdict()},
    )


def selected(options: argparse.Namespace) -> list[Job]:
    wanted = set(filter(None, options.cases.split(",")))
    chosen = [
        job
        for job in jobs()
        if (not wanted or job.id in wanted or job.id.removesuffix("-fixed") in wanted)
        and options.part in {"", job.family.part}
        and options.group in {"", job.group}
    ]
    if not chosen:
        sys.exit("no such case; --list shows all")
    return chosen


def read(path: Path | None) -> dict[tuple[str, int], Measured]:
    """What was measured before."""
    if path is None or not path.exists():
        return {}
    known = (Measured.from_json(json.loads(line)) for line in path.read_text().splitlines())
    return {(one.id, one.seed): one for one in known}


def verdict(one: Measured) -> str:
    if not one.alarms:
        return "missed"
    return "right" if one.is_right else "other"


def progress(one: Measured) -> str:
    named = ", ".join(f"{said.rule}@{said.step if said.step is not None else 'end'}" for said in one.alarms)
    mark = "crash" if one.crash else verdict(one) if one.causes else ""
    return f"{one.kind:8} {one.id:44} {one.metric:6.3f} {one.seconds:5.1f} s {mark:6}{one.crash or named}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="ids, with commas between them")
    parser.add_argument("--part", default="", choices=["tune", "report"])
    parser.add_argument("--group", default="", choices=["faulty", "healthy"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--json", type=Path, help="a line for each program; those that are there are not run again")
    parser.add_argument("--unwatched", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--workloads", default="", help="names of those of benchmarks.speed, or `all`")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--epochs-scale", type=float, default=1.0)
    parser.add_argument("--data", type=Path, default=os.environ.get("SOUNDING_DATA"), help="the public data sets")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = selected(options)
    if options.list:
        print("\n".join(f"{job.family.part:6} {job.kind:8} {job.id:44} {' '.join(job.causes)}" for job in chosen))
        return
    if options.workloads:
        names = list(WORKLOADS) if options.workloads == "all" else options.workloads.split(",")
        print(overhead(workloads(options.data, names, options.epochs_scale), options.rounds))
        return
    if options.overhead:
        print(overhead({job.id: job.program for job in chosen if job.kind == "healthy"}, options.rounds))
        return
    known, measured = read(options.json), []
    for seed in map(int, options.seeds.split(",")):
        for job in chosen:
            if (one := known.get((job.id, seed))) is None:
                one = measure(job, seed, is_watched=not options.unwatched)
                if options.json is not None:
                    with options.json.open("a") as file:
                        file.write(json.dumps(one.to_json()) + "\n")
            measured.append(one)
            print(progress(one), flush=True)
    print("\n" + report(measured, twins()))


if __name__ == "__main__":
    main()
