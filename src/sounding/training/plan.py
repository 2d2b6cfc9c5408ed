"""How to use this machine for this network: measured on real steps, never guessed."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sounding.batches import Batch
from sounding.training.loop import autocast, moved

FEWEST_TURNS = 2
"""Each candidate is measured at least this often, however slow it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The fastest candidate, and the table it was chosen from."""

    precision: str
    channels_last: bool
    threads: int
    table: tuple[dict[str, Any], ...]
    """For each candidate its settings and `milliseconds` for a step, the fastest first."""
    reference: float
    """Milliseconds of the plain way: float32, the plain memory layout, the present number of threads."""

    @property
    def settings(self) -> dict[str, Any]:
        """As recipe keys: `training.precision`, `training.channels_last` and `training.threads`."""
        return {f"training.{name}": getattr(self, name) for name in ("precision", "channels_last", "threads")}

    def __str__(self) -> str:
        """In words: what was taken, and how it compares with the plain float32 way."""
        rows = {(row["precision"], row["channels_last"], row["threads"]): row["milliseconds"] for row in self.table}
        taken = rows[self.precision, self.channels_last, self.threads]
        plain = self.reference
        layout = ", channels last" if self.channels_last else ""
        threads = f"{self.threads} thread" + "s" * (self.threads > 1)
        words = f"{self.precision}{layout}, {threads}: {taken:.3g} ms a step"
        return words if taken == plain else f"{words}, against {plain:.3g} ms the plain way"


def choose_plan(
    network: nn.Module,
    loss: Callable[..., Tensor],
    batch: Batch,
    *,
    precisions: Sequence[str] = ("float32", "bfloat16"),
    threads: Sequence[int] = (),
    seconds: float = 2.0,
    gain: float = 1.1,
    device: torch.device | str = "cpu",
) -> Plan:
    """Measure forward and backward of one batch under each candidate, and take the fastest.

    network:     left as it is; copies are measured. So is the default random generator.
    loss:        of (outputs, target).
    precisions, threads: what to try. Float32 in the plain memory layout with the present number of threads is
                 always tried first; the channels-last layout where an input has four dimensions.
    seconds:     for all candidates together.
    gain:        how many times faster than that reference a candidate must be to be preferred.
    """
    device = torch.device(device)
    present = torch.get_num_threads()
    pictures = any(x.ndim == 4 for x in batch.inputs)
    candidates = list(
        itertools.product(
            dict.fromkeys(("float32", *precisions)),
            (False, True) if pictures else (False,),
            dict.fromkeys((present, *threads)),
        )
    )
    steps = [_Step(network, loss, batch, precision, last, device) for precision, last, _ in candidates]
    fastest = [float("inf")] * len(candidates)
    end = time.perf_counter() + seconds
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for turn in itertools.count():  # in turns, so that another program's burst slows all of them alike
                for at, ((_, _, count), step) in enumerate(zip(candidates, steps, strict=True)):
                    torch.set_num_threads(count)
                    spent = step()
                    if turn > 0:  # the first step chooses kernels and fills caches
                        fastest[at] = min(fastest[at], spent)
                if turn >= FEWEST_TURNS and time.perf_counter() > end:
                    break
    finally:
        torch.set_num_threads(present)
    table = [
        {"precision": precision, "channels_last": last, "threads": count, "milliseconds": 1000 * spent}
        for (precision, last, count), spent in zip(candidates, fastest, strict=True)
    ]
    reference = table[0]
    table.sort(key=lambda row: row["milliseconds"])
    best = table[0] if table[0]["milliseconds"] * gain < reference["milliseconds"] else reference
    return Plan(best["precision"], best["channels_last"], best["threads"], tuple(table), reference["milliseconds"])


class _Step:
    """Forward and backward of one batch on a copy of the network; each call answers with its seconds."""

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[..., Tensor],
        batch: Batch,
        precision: str,
        channels_last: bool,
        device: torch.device,
    ) -> None:
        self.network = copy.deepcopy(network).to(device).train()
        self.batch, self.loss, self.precision, self.device = moved(batch, device), loss, precision, device
        if channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            inputs = tuple(
                x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in self.batch.inputs
            )
            self.batch = self.batch._replace(inputs=inputs)

    def __call__(self) -> float:
        began = time.perf_counter()
        self.network.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            outputs = self.network(*self.batch.inputs)
        self.loss(outputs.float(), self.batch.target).backward()  # type: ignore[no-untyped-call]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began
