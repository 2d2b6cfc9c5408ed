"""What the next character of tinyshakespeare costs, beside nanoGPT's recipe for a CPU on the same machine.

The split is nanoGPT's: the first 90 % of the text train, the last 10 % are held out; the runs choose their weights by
the first half of these, and what is told is the loss over both halves. The recipe beside it is written here from its
published description: a transformer with 4 layers, 4 heads and 128 numbers, learned positions, 64 characters at a time,
12 of these a step, 2,000 steps of AdamW (betas 0.9 and 0.99, weight decay 0.1) with a rate that rises for 100 steps and
falls along a cosine from 1e-3 to 1e-4, no dropout. Both run one after the other, with as many threads; the first run
has as many seconds to train as the recipe took.

    python -m benchmarks.language_modeling [--time 60s ...] [--seeds 0 1 2] [--network NAME] [--set KEY=VALUE ...]
        [--without-plain] [--data DIR]

DIR holds the public data sets (default: the environment variable SOUNDING_DATA). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding import fit
from sounding.recipe import parse_duration, parse_setting

STEPS, BATCH, BLOCK, WIDTH, DEPTH, HEADS = 2000, 12, 64, 128, 4, 4
PEAK, LOWEST, WARMING, DECAY = 1e-3, 1e-4, 100, 0.1
HELD_OUT = 0.1


class Plain(nn.Module):
    """The decoder of the recipe, in PyTorch's own layers where there are such."""

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(codes, WIDTH), nn.Embedding(BLOCK, WIDTH)
        self.layers = nn.ModuleList(PlainLayer() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, codes, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * DEPTH) if name.endswith("out.weight") else 1))
        self.token.weight = self.head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) to (B, L, codes)."""
        values = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        for layer in self.layers:
            values = layer(values)
        logits: Tensor = self.head(self.norm(values))
        return logits


class PlainLayer(nn.Module):
    """Attention and a feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down_out = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        """(B, L, WIDTH) to the same."""
        batch, length, _ = values.shape
        parts = self.qkv(self.first(values)).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        gathered = F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).reshape(values.shape)
        values = values + self.out(gathered)
        after: Tensor = values + self.down_out(F.gelu(self.up(self.second(values))))
        return after


def plain(text: str, seed: int) -> dict[str, float]:
    """The recipe as a plain loop: its loss over what is held out, and the seconds of its steps."""
    torch.manual_seed(seed)
    codes = {character: code for code, character in enumerate(sorted(set(text)))}
    data = torch.tensor([codes[character] for character in text])
    train, held_out = data[: int(len(data) * (1 - HELD_OUT))], data[int(len(data) * (1 - HELD_OUT)) :]
    network = Plain(len(codes))
    groups = [
        {"params": [p for p in network.parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in network.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99))
    offsets = torch.arange(BLOCK + 1)
    wall, used = time.perf_counter(), time.process_time()
    for step in range(STEPS):
        progress = min(max((step - WARMING) / (STEPS - WARMING), 0.0), 1.0)
        rate = LOWEST + 0.5 * (1 + math.cos(math.pi * progress)) * (PEAK - LOWEST)
        for group in optimizer.param_groups:
            group["lr"] = PEAK * (step + 1) / WARMING if step < WARMING else rate
        places = torch.randint(len(train) - BLOCK, (BATCH,))
        tokens = train[places[:, None] + offsets]
        loss = F.cross_entropy(network(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    seconds, processor = time.perf_counter() - wall, time.process_time() - used
    network.eval()
    with torch.inference_mode():
        count = (len(held_out) - 1) // BLOCK
        inputs, targets = (held_out[at : at + count * BLOCK].view(count, BLOCK) for at in (0, 1))
        parts = zip(inputs.split(256), targets.split(256), strict=True)
        costs = [F.cross_entropy(network(x).flatten(0, 1), y.flatten(), reduction="sum") for x, y in parts]
    return {
        "loss": float(torch.stack(costs).sum()) / (count * BLOCK),
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
    }


def ours(file: Path, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """A run of `sounding fit`: the loss over both halves of what is held out, and the seconds of the whole run."""
    wall, used = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        asked = {"task": "language-modeling", "seed": seed, **settings}
        run = fit(file, settings=asked, out=folder, say=None, progress=False)
        seconds, processor = time.perf_counter() - wall, time.process_time() - used
        metrics, rows = run.metrics, run.results["data"]["rows"]
        parts = [metrics["validation"]["loss"], metrics["test"]["loss"]]
        return {
            "loss": sum(parts) / 2,  # both halves have the same number of characters, give or take one
            "validation": parts[0],
            "test": parts[1],
            "ngrams": sum(run.results["baseline"]["interpolated n-grams"][p]["loss"] for p in ("validation", "test"))
            / 2,
            "network": run.results["network"],
            "parameters": run.results["parameters"],
            "epochs": run.results["epochs"],
            "training_seconds": round(sum(one["seconds"] for one in run.results["history"]), 1),
            "seconds": round(seconds, 1),
            "processor_seconds": round(processor, 1),
            "findings": [one["title"] for one in run.results["findings"] if one["severity"] != "info"],
            "rows": rows,
        }


def main() -> None:
    """Run what was asked for, a line each as it comes, and everything as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--time", nargs="*", default=[], help="of further runs, such as 5m")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--network", default="auto")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--without-plain", action="store_true")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOUNDING_DATA", "data")))
    options = parser.parse_args()
    file = options.data / "tinyshakespeare" / "input.txt"
    if not file.is_file():
        raise SystemExit(f"{file} is not there: give --data")
    results: list[dict[str, Any]] = []
    for seed in options.seeds:
        limits = [parse_duration(text) for text in options.time]
        if not options.without_plain:
            results.append({"what": "plain recipe", "seed": seed, **plain(file.read_text(), seed)})
            print(results[-1], flush=True)
            limits.insert(0, results[-1]["seconds"])
        for limit in limits or [0.0]:
            settings = dict(parse_setting(text) for text in options.set) | {"network.name": options.network}
            settings["training.time"] = limit
            what = f"sounding, {limit:.0f} s" if limit else "sounding"
            results.append({"what": what, "seed": seed, **ours(file, seed, settings)})
            print(results[-1], flush=True)
    print(json.dumps({"threads": torch.get_num_threads(), "results": results}))


if __name__ == "__main__":
    main()
