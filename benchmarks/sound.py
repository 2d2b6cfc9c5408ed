"""How well recordings are classified and transcribed, on spoken digits.

official    the split of the set itself: every speaker's recordings 0 to 4 of each digit are the test rows
speakers    trained on five of the six speakers, measured on the sixth, each in turn
joined      transcription of 3 to 7 recordings of one speaker, joined with pauses and noise; those of the test strings
            are the test rows of the set, so speakers are shared and recordings are not

    python -m benchmarks.sound official|speakers|joined [--seeds 1 2 3] [--speakers NAME ...] [--rows N]
                               [--set KEY=VALUE ...] [--data DIR]

DIR holds the public data sets (default: the environment variable SOUNDING_DATA). Each run is one of `sounding fit` with
nothing set but what is given here. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from sounding import Run, fit
from sounding.data.sources import read_source
from sounding.recipe import DataRecipe
from sounding.recipe.recipe import settings_from_toml

RATE = 8000
WORDS = "zero one two three four five six seven eight nine".split()
FEWEST, MOST = 3, 7
PAUSE = (0.05, 0.4)
"""Seconds between two digits, and before the first and behind the last."""
NOISE = (15.0, 35.0)
"""Decibels that the noise is below the speech."""


def official(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One run on the split of the set."""
    return fitted("@fsdd", "digit", {**settings, "seed": seed})


def by_speaker(speaker: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One run that never heard the speaker on whom it is measured."""
    data = read_source("@fsdd", DataRecipe()).data
    held_out = np.array(data["speaker"].to_pylist()) == speaker
    parts = {"train": data.filter(pa.array(~held_out)), "test": data.filter(pa.array(held_out))}
    settings = {**settings, "seed": seed, "data.ignore": ["speaker"]}
    return fitted(parts, "digit", settings)


def joined(rows: int, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """One run on strings of digits."""
    with tempfile.TemporaryDirectory() as folder:
        write_strings(Path(folder), {"train": rows, "test": 500}, seed)
        settings = {**settings, "seed": seed, "task": "transcription", "test": str(Path(folder) / "test.csv")}
        return fitted(Path(folder) / "train.csv", "text", settings)


def fitted(source: Any, target: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a run came to, the seconds it took, and those of the processor."""
    started, busy = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run: Run = fit(source, target, settings=settings, out=folder, say=print, progress=False)
        results, worst = run.results, [(one["truth"], one["prediction"]) for one in run.results["examples"][:5]]
    return {
        "network": results["network"],
        "parameters": results["parameters"],
        "test": results["metrics"]["test"],
        "interval": results["intervals"]["test"][results["headline"]["metric"]],
        "simple": {name: scores["test"] for name, scores in results["baseline"].items()},
        "epochs": results["epochs"],
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - busy, 1),
        "worst": worst,
    }


def write_strings(folder: Path, rows: dict[str, int], seed: int) -> None:
    """Recordings of strings of digits as WAV files, and for each part a CSV file with their texts."""
    table = read_source("@fsdd", DataRecipe())
    cells = table.data.to_pylist()
    for part, count in rows.items():
        recordings: dict[str, list[tuple[int, np.ndarray]]] = {}
        for at in table.parts[part]:
            recordings.setdefault(cells[at]["speaker"], []).append(
                (int(cells[at]["digit"]), decoded(cells[at]["audio"]))
            )
        draw = np.random.default_rng([seed, list(rows).index(part)])
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["audio", "text"])
            for number in range(count):
                speaker = sorted(recordings)[int(draw.integers(len(recordings)))]
                wave, text = string(recordings[speaker], draw)
                soundfile.write(folder / f"{part}{number}.wav", wave, RATE, "PCM_16")
                writer.writerow([f"{part}{number}.wav", text])


def string(recordings: Sequence[tuple[int, np.ndarray]], draw: np.random.Generator) -> tuple[np.ndarray, str]:
    """A few recordings one after the other, each as loud as the others, with pauses and noise; and what they say."""
    chosen = [recordings[at] for at in draw.integers(len(recordings), size=draw.integers(FEWEST, MOST + 1))]
    pieces = [silence(draw)]
    for _, wave in chosen:
        pieces += [wave / max(np.sqrt(np.square(wave).mean()), 1e-6), silence(draw)]
    whole = np.concatenate(pieces)
    whole += draw.normal(size=len(whole)) * 10 ** (-draw.uniform(*NOISE) / 20)
    return whole / np.abs(whole).max() * draw.uniform(0.2, 0.9), " ".join(WORDS[digit] for digit, _ in chosen)


def silence(draw: np.random.Generator) -> np.ndarray:
    return np.zeros(round(draw.uniform(*PAUSE) * RATE))


def decoded(cell: dict[str, Any]) -> np.ndarray:
    import io

    return np.asarray(soundfile.read(io.BytesIO(cell["bytes"]))[0])


def told(name: str, result: dict[str, Any]) -> None:
    measured = "  ".join(f"{metric} {value:.4f}" for metric, value in result["test"].items() if metric in SHOWN)
    simple = {model: scores.get("accuracy", scores.get("wer")) for model, scores in result["simple"].items()}
    print(f"{name}: {measured}  {result['seconds']} s, {result['processor_seconds']} s of processor; {simple}")


SHOWN = ("accuracy", "log_loss", "wer", "cer")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("official", "speakers", "joined"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--speakers", nargs="+", default=["george", "jackson", "lucas", "nicolas", "theo", "yweweler"])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--set", nargs="*", default=[], help="settings, as TOML: training.epochs=3")
    parser.add_argument("--data", default=os.environ.get("SOUNDING_DATA", ""))
    asked = parser.parse_args(arguments)
    os.environ["SOUNDING_DATA"] = asked.data
    settings = settings_from_toml("\n".join(asked.set))
    results: dict[str, Any] = {}
    for seed in asked.seeds:
        if asked.what == "official":
            results[f"official {seed}"] = official(seed, settings)
        elif asked.what == "joined":
            results[f"joined {seed}"] = joined(asked.rows, seed, settings)
        else:
            results |= {f"{one} {seed}": by_speaker(one, seed, settings) for one in asked.speakers}
    for name, result in results.items():
        told(name, result)
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
