"""How well films are recommended: MovieLens-100k, with `sounding fit` itself.

Ratings and choices by the split u1 that comes with it; what users met next by the last film of each user.

    python -m benchmarks.recommendation FOLDER --seeds 0 1 2

FOLDER holds u1.base, u1.test, u.user and u.item of MovieLens-100k (Harper and Konstan 2015), which may not be passed
on. Floors: a root mean squared error of 0.93 or lower; a recall at 10 above that of item nearest neighbours in the run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

GENRES = (
    *("unknown", "action", "adventure", "animation", "children", "comedy", "crime", "documentary", "drama"),
    *("fantasy", "film_noir", "horror", "musical", "mystery", "romance", "sci_fi", "thriller", "war", "western"),
)
ASKED: dict[str, list[str]] = {
    "ratings": ["--target", "rating"],
    "choices": ["--set", 'data.ignore=["rating"]'],
    "choices against 100 negatives": ["--set", 'data.ignore=["rating"]', "--set", "recommendation.negatives=100"],
}


NEXT = ["--set", "data.time=time", "--set", "recommendation.split=last", "--set", 'data.ignore=["rating"]']
ASKED |= {
    f"next, {name}": [*NEXT, "--network", name]
    for name in ("history_transformer", "history_recurrent", "matrix_factorization")
}
"""What users met next is told from all rows without further columns."""


def written(folder: Path, to: Path) -> None:
    """The four files as CSV with names for their columns."""

    def write(name: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        with (to / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)

    def lines(name: str, separator: str) -> list[list[str]]:
        return [line.split(separator) for line in (folder / name).read_text(encoding="latin-1").splitlines() if line]

    parts = {part: lines(f"u1.{part}", "\t") for part in ("base", "test")}
    for part, rows in {**parts, "all": [*parts["base"], *parts["test"]]}.items():
        write(f"u1.{part}.csv", ("user", "item", "rating", "time"), rows)
    write("users.csv", ("user", "age", "gender", "occupation", "zip"), lines("u.user", "|"))
    write(
        "items.csv",
        ("item", "title", "year", *GENRES),
        ([one[0], one[1], one[2][-4:], *one[5:]] for one in lines("u.item", "|")),
    )


def measured(folder: Path, asked: list[str], seed: int, more: list[str]) -> dict[str, Any]:
    """The JSON of one run, with the processor's seconds."""
    rows = ["u1.all.csv"] if "recommendation.split=last" in asked else ["u1.base.csv", "--test", "u1.test.csv"]
    command = [sys.executable, "-m", "sounding", "fit", *rows, *asked]
    command += [
        "--task",
        "recommendation",
        "--seed",
        str(seed),
        "--json",
        "--quiet",
        "--out",
        f"runs/{os.urandom(4).hex()}",
    ]
    told = (
        "recommendation.users=users.csv",
        "recommendation.items=items.csv",
        "data.missing_in.occupation=[]",
    )
    for setting in told if len(rows) > 1 else ():
        command += ["--set", setting]
    before = os.times()
    done = subprocess.run([*command, *more], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = os.times()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {**found, "processor_seconds": round(used, 1)}


def main() -> None:
    """A line for each run: the network, then the simple models of the same run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", choices=list(ASKED), nargs="+", default=list(ASKED)[:2])
    parser.add_argument("--set", action="append", default=[], help="passed on to sounding fit")
    options = parser.parse_args()
    more = [part for setting in options.set for part in ("--set", setting)]
    with tempfile.TemporaryDirectory() as place:
        written(options.folder, Path(place))
        for name in options.only:
            metrics = ("rmse", "mae") if name == "ratings" else ("recall_at_10", "ndcg_at_10")
            for seed in options.seeds:
                run = measured(Path(place), ASKED[name], seed, more)
                models = {run["network"]: run["metrics"], **run["baseline"]}
                told = "; ".join(
                    f"{model} " + " / ".join(f"{scores['test'][metric]:.4f}" for metric in metrics)
                    for model, scores in models.items()
                )
                seconds = f"{run['seconds']:.0f} s, processor {run['processor_seconds']:.0f} s"
                print(f"{name}, seed {seed}, {' / '.join(metrics)}: {told} ({seconds})", flush=True)


if __name__ == "__main__":
    main()
