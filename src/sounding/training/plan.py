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


@dataclass(frozen=True, slots=True)
class Plan:
    """The fastest candidate, and the table it was chosen from."""

    precision: str
    channels_last: bool
    threads: int
    table: tuple[dict[str, Any], ...]
    """For each candidate its settings and `milliseconds` for a step, the fastest first."""

    @property
    def settings(self) -> dict[str, Any]:
        """As recipe keys: `training.precision`, `training.channels_last` and `training.threads`."""
        return {f"training.{name}": getattr(self, name) for name in ("precision", "channels_last", "threads")}

    def __str__(self) -> str:
        """In words: what was taken, and how it compares with the plain float32 way."""
        rows = {(row["precision"], row["channels_last"], row["threads"]): row["milliseconds"] for row in self.table}
        taken = rows[self.precision, self.channels_last, self.threads]
        plain = next(time for (precision, last, _), time in rows.items() if precision == "float32" and not last)
        layout = ", channels last" if self.channels_last else ""
        words = f"{self.precision}{layout}, {self.threads} threads: {taken:.3g} ms a step"
        return words if taken == plain else f"{words}, against {plain:.3g} ms in plain float32"


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
    table = []
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for precision, channels_last, count in candidates:
                torch.set_num_threads(count)
                spent = _step_seconds(
                    network, loss, batch, precision, channels_last, device, seconds / len(candidates)
                )
                names = {"precision": precision, "channels_last": channels_last, "threads": count}
                table.append({**names, "milliseconds": 1000 * spent})
    finally:
        torch.set_num_threads(present)
    reference = table[0]
    table.sort(key=lambda row: row["milliseconds"])
    best = table[0] if table[0]["milliseconds"] * gain < reference["milliseconds"] else reference
    return Plan(best["precision"], best["channels_last"], best["threads"], tuple(table))


def _step_seconds(
    network: nn.Module,
    loss: Callable[..., Tensor],
    batch: Batch,
    precision: str,
    channels_last: bool,
    device: torch.device,
    seconds: float,
) -> float:
    """The fastest of some steps: whatever else the machine does only ever makes one slower."""
    twin = copy.deepcopy(network).to(device).train()
    batch = moved(batch, device)
    inputs = batch.inputs
    if channels_last:
        twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = tuple(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs)
    fastest, end = float("inf"), time.perf_counter() + seconds
    for step in itertools.count():
        began = time.perf_counter()
        twin.zero_grad(set_to_none=True)
        with autocast(device, precision):
            outputs = twin(*inputs)
        loss(outputs.float(), batch.target).backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if step > 0:  # the first step chooses kernels and fills caches
            fastest = min(fastest, time.perf_counter() - began)
        if step >= 2 and time.perf_counter() > end:
            return fastest
    raise AssertionError("unreachable")
