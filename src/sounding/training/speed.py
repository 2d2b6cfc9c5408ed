"""How much of the machine a training used: operations counted, against those of the fastest matrix product."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from sounding.batches import Batches
from sounding.recipe import TrainingRecipe
from sounding.training.history import History
from sounding.training.loop import moved
from sounding.training.machine import machine_set

SIZES = {"cpu": 1024, "cuda": 8192}
"""Rows of the square matrices by which a device's peak is measured."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a training reached, and what the machine gives."""

    operations: int
    """Floating-point operations of matrix products and convolutions in forward and backward pass, of all steps."""
    seconds: float
    """Of training, validation included."""
    peak: float
    """Operations a second of the fastest matrix product in the same precision, with as many threads."""

    @property
    def reached(self) -> float:
        """Operations a second."""
        return self.operations / max(self.seconds, 1e-9)

    @property
    def fraction(self) -> float:
        """Of the peak."""
        return self.reached / self.peak


def speed_of(
    network: nn.Module,
    loss: Callable[..., Tensor],
    batches: Batches,
    history: History,
    recipe: TrainingRecipe,
) -> Speed:
    """What a finished training reached on the device that the network is on; the network is left as it is.

    loss: of outputs and target.
    """
    device = next(network.parameters()).device
    with machine_set(recipe, device):
        batch = moved(next(batches.epoch(0)), device)
        copied = copy.deepcopy(network).train()
        operations = count_operations(lambda: torch.autograd.backward(loss(copied(*batch.inputs), batch.target)))
        peak = matrix_peak(getattr(torch, recipe.precision), device=device)
    trained = len(history) * batches.rows
    return Speed(round(operations * trained / len(batch.rows)), history.seconds, peak)


def count_operations(step: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions inside a call; a multiply-add counts as two.

    >>> count_operations(lambda: torch.ones(2, 3) @ torch.ones(3, 5))
    60
    """
    with FlopCounterMode(display=False, custom_mapping=UNKNOWN_TO_TORCH) as counter:
        step()
    return int(counter.get_total_flops())


def matrix_peak(dtype: torch.dtype, *, seconds: float = 0.2, device: torch.device | str = "cpu") -> float:
    """Operations a second of the fastest of many products of two square matrices.

    dtype:    of the matrices; float32 ones are multiplied as `torch.get_float32_matmul_precision` says.
    seconds:  to try for.
    """
    size = SIZES[torch.device(device).type]
    left, right, out = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(3))
    fastest, end = float("inf"), time.perf_counter() + seconds
    while fastest == float("inf") or time.perf_counter() < end:
        began = time.perf_counter()
        torch.mm(left, right, out=out)
        if out.is_cuda:
            torch.cuda.synchronize(out.device)
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * size**3 / fastest


def _recurrent(values: Any, inward: Any, recurrent: Any, *others: Any, **keywords: Any) -> int:
    """Of oneDNN's recurrent layers; from the shapes (T, B, inputs), (gates H, inputs) and (gates H, H)."""
    operations: int = 2 * values[0] * values[1] * inward[0] * (inward[1] + recurrent[1])
    return operations


def _recurrent_backward(*shapes: Any, **keywords: Any) -> int:
    return 2 * _recurrent(*shapes)


def _attention(questions: Any, keys: Any, answers: Any, *others: Any, **keywords: Any) -> int:
    return int(sdpa_flop_count(questions, keys, answers))  # type: ignore[no-untyped-call]


def _attention_backward(gradient: Tensor, questions: Any, keys: Any, answers: Any, *others: Any, **more: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, questions, keys, answers))  # type: ignore[no-untyped-call]


UNKNOWN_TO_TORCH = {
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,
    torch.ops.aten.mkldnn_rnn_layer_backward: _recurrent_backward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""Operations on the CPU that PyTorch's counter passes over."""
