"""Whether time for an example and memory stay flat while the data grow beyond the memory there is.

Tables of 14 columns (8 numbers, 5 categories, the target) and sets of pictures are written to Parquet files in chunks.
Each is prepared and trained on in a process of its own, whose address space may grow by LIMIT megabytes beyond what
the libraries take (RLIMIT_AS).

    python -m benchmarks.larger_than_memory [--rows N ...] [--pictures N ...] [--limit 1000] [--folder DIR]

For each size: seconds to prepare (recognise, sample, encode to disk, check); microseconds for an example in training
(forward, loss, backward, step of a small network; by the clock and of the CPU) and in reading alone; and what the
process took at most beyond the libraries, in memory (peak RSS) and in address space. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TABLES = (10_000, 100_000, 1_000_000, 10_000_000, 20_000_000)
PICTURES = (5_000, 50_000, 150_000)
SIDE = 48
GROUP = 50_000
"""Rows that are written at a time."""
WARM, STEPS = 10, {"table": 1000, "pictures": 20}
"""Steps that are not counted, and steps of training that are."""
SETTINGS = {
    "table": {"network.name": "feedforward", "training.batch_size": 256},
    "pictures": {"network.name": "convolutional", "training.batch_size": 32},
}
MOST_READ = 5_000_000
"""Rows that are read to time reading alone."""


def write_table(path: Path, rows: int) -> None:
    """Eight numbers, five categories, and a target that depends on some of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for at in range(0, rows, GROUP):
        draw, count = np.random.default_rng(at), min(GROUP, rows - at)
        numbers = draw.normal(size=(count, 8)).round(4)
        codes = [draw.integers(0, size, count) for size in (2, 5, 12, 40, 200)]
        score = numbers[:, 0] - numbers[:, 1] * (codes[0] == 1) + (codes[1] - 2) / 2 + draw.normal(size=count)
        data: dict[str, Any] = {f"number_{place}": numbers[:, place] for place in range(8)}
        for place, code in enumerate(codes):
            data[f"category_{place}"] = np.array([f"value {value}" for value in range(200)])[code]
        data["target"] = np.where(score > 0, "yes", "no")
        table = pa.table(data)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def write_pictures(path: Path, rows: int) -> None:
    """JPEG pictures of ten classes: a class is where the bright spot is."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    writer = None
    for at in range(0, rows, 1000):
        draw, count = np.random.default_rng(at), min(1000, rows - at)
        labels = draw.integers(0, 10, count)
        coarse = draw.integers(0, 160, (count, 8, 8, 3), dtype=np.uint8)
        coarse[np.arange(count), labels // 4 * 3, labels % 4 * 2] = 255
        encoded = []
        for picture in coarse:
            file = io.BytesIO()
            Image.fromarray(picture).resize((SIDE, SIDE)).save(file, "JPEG")
            encoded.append(file.getvalue())
        table = pa.table({"picture": encoded, "target": [f"class {label}" for label in labels]})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def memory(key: str) -> float:
    """Megabytes, as the system counts them for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def measure(path: Path, kind: str, limit: int) -> dict[str, Any]:
    """Prepare and train under the limit."""
    import torch

    from sounding.tasks.prepare import prepare
    from sounding.training import build_optimizer

    torch.set_num_threads(1)
    warm_up = torch.nn.Linear(2, 2)
    build_optimizer(warm_up, prepare_recipe())
    mapped, resident = memory("VmSize"), memory("VmRSS")
    most = int((mapped + limit) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))

    began = time.perf_counter()
    run = prepare(path, {"target": ["target"], **SETTINGS[kind]})
    prepared = time.perf_counter() - began
    network = run.network()
    optimizer = build_optimizer(network, run.recipe.training.optimizer)
    batches = run.batches(run.split.train, training=True)

    rows, steps, busy = 0, 0, 0.0
    loss = torch.tensor(0.0)
    for batch in itertools.chain.from_iterable(batches.epoch(epoch) for epoch in itertools.count()):
        if steps == WARM:
            began, busy, rows = time.perf_counter(), time.process_time(), 0
        optimizer.zero_grad(set_to_none=True)
        loss = run.task.loss(network(*batch.inputs), batch.target, batch.weight)
        loss.backward()
        optimizer.step()
        rows, steps = rows + len(batch.rows), steps + 1
        if steps == WARM + STEPS[kind]:
            break
    training, busy = (time.perf_counter() - began) / rows, (time.process_time() - busy) / rows

    began, rows = time.perf_counter(), 0
    for batch in reading(batches):
        rows += len(batch.rows)
        if rows >= MOST_READ:
            break
    return {
        "rows on disk": len(run.stored["target"]) if run.stored else 0,
        "prepare, s": round(prepared, 1),
        "training, us": round(training * 1e6, 2),
        "training, CPU us": round(busy * 1e6, 2),
        "reading, us": round((time.perf_counter() - began) / rows * 1e6, 3),
        "peak RSS, MB": round(memory("VmHWM") - resident),
        "peak address space, MB": round(memory("VmPeak") - mapped),
        "loss": round(loss.item(), 3),
    }


def reading(batches: Any) -> Iterator[Any]:
    """One epoch without augmentation."""
    batches.transform = None
    return iter(batches.epoch(0))


def prepare_recipe() -> Any:
    """An optimizer whose libraries are to be loaded before anything is counted."""
    from sounding.recipe import Recipe

    return Recipe().training.optimizer


def main() -> None:
    """Write, measure and print one size after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=list(TABLES))
    parser.add_argument("--pictures", type=int, nargs="*", default=list(PICTURES))
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(Path(given.measure[0]), given.measure[1], given.limit)))
        return
    results = []
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        for kind, rows in [*(("table", n) for n in given.rows), *(("pictures", n) for n in given.pictures)]:
            path = folder / f"{kind}.parquet"
            (write_table if kind == "table" else write_pictures)(path, rows)
            program = [sys.executable, "-m", "benchmarks.larger_than_memory", "--limit", str(given.limit)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "SOUNDING_CACHE": str(folder / "cache")}
            done = subprocess.run(
                [*program, "--measure", str(path), kind], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr)
            result = {"kind": kind, "rows": rows, "file, MB": round(path.stat().st_size / 2**20)}
            results.append({**result, **json.loads(done.stdout.splitlines()[-1])})
            print(
                "  ".join(f"{key} {value:,}" if key != "kind" else value for key, value in results[-1].items()),
                flush=True,
            )
            path.unlink()
            subprocess.run(["rm", "-rf", str(folder / "cache")], check=True)
    print(json.dumps({"limit, MB": given.limit, "results": results}))


if __name__ == "__main__":
    main()
