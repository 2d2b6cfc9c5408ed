"""Training killed at random instants, as often as one likes: does it end in the bits of a run left alone?

    python -m benchmarks.kills [--kills 1000] [--seed 0] [--work NAME ...] [--folder DIR]

Each line is one run: its seed, how often it was killed, how often after its first step and how often while a
checkpoint was being written, and what differs at the end: weights, optimizer, average, history, predictions, position.
The same programs run in tests/training/test_kills.py; `house` is the command line from a file to the report.
A seed repeats the delays of the kills; the instants that they hit depend on the machine's load as well.
The last line is JSON. Exit status 1 if anything differed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "tests" / "training"))

from _killable import PROGRAMS, TRAINERS, Server, differences, kill_at_random, server

KILLS_IN_A_RUN = 8


def killed_run(running: Server, work: str, seed: int, folder: Path, kills: int) -> dict[str, Any]:
    """One run left alone, and the same one killed."""
    alone = running.attempt(work, folder / "alone", seed=seed)
    draws = random.Random(f"{work} {seed}")
    outcomes, differs = [], set[str]()
    for part in itertools.count():  # one that ended before all its kills came is begun again elsewhere for the rest
        wanted = kills - len(outcomes)
        killed, result = kill_at_random(
            running, work, folder / str(part), draws, kills=wanted, seconds=alone.seconds, seed=seed
        )
        outcomes += killed
        differs |= set(differences(alone.result, result))
        if len(killed) == wanted:
            break
    return {
        "work": work,
        "seed": seed,
        "kills": len(outcomes),
        "midway": sum(outcome.steps > 0 for outcome in outcomes),
        "writing": sum(outcome.writing for outcome in outcomes),
        "differs": sorted(differs),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first run of each kind")
    parser.add_argument("--work", nargs="+", choices=list(PROGRAMS), default=list(TRAINERS))
    parser.add_argument("--folder", type=Path, help="where runs are written (default: in memory, where there is that)")
    options = parser.parse_args()
    where = options.folder or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    began, left, rows = time.monotonic(), options.kills, []
    with server() as running:
        for turn in itertools.count():
            work = options.work[turn % len(options.work)]
            with tempfile.TemporaryDirectory(dir=where) as name:
                kills = min(left, KILLS_IN_A_RUN)
                row = killed_run(running, work, options.seed + turn // len(options.work), Path(name), kills)
            rows.append(row)
            left -= row["kills"]
            print(
                f"{work:10} seed {row['seed']:<4} {row['kills']} kills, {row['midway']} midway, "
                f"{row['writing']} while writing: {', '.join(row['differs']) or 'the same bits'}",
                flush=True,
            )
            if left <= 0:
                break
    total = {key: sum(row[key] for row in rows) for key in ("kills", "midway", "writing")}
    bad = [row for row in rows if row["differs"]]
    bound = 3 / total["kills"]
    print(
        f"{total['kills']} kills ({total['midway']} midway, {total['writing']} while a checkpoint was being written) "
        f"in {len(rows)} runs, {len(bad)} of which ended in other bits"
        + ("" if bad else f"; so a kill does harm in fewer than {bound:.2%} of cases (95 % confidence)")
    )
    facts = {"torch": torch.__version__, "machine": platform.machine(), "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps({**total, "runs": len(rows), "different": bad, "first_seed": options.seed, **facts}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
