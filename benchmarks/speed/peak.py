"""What the matrix units give, and what each network asks of them: `python -m benchmarks.speed.peak [WORKLOAD ...]`.

Prints JSON: GFLOP/s of a large matrix product in float32 and bfloat16, and for each workload the floating-point
operations of forward and backward pass of a batch (of matrix products and convolutions; the rest is small).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.speed.networks import LOSSES, build
from benchmarks.speed.workloads import WORKLOADS

SIZE = 4096


def matrix_peak(dtype: torch.dtype, seconds: float = 3.0) -> float:
    """GFLOP/s of the fastest of many products of two square matrices."""
    left, right = torch.randn(SIZE, SIZE, dtype=dtype), torch.randn(SIZE, SIZE, dtype=dtype)
    out = torch.empty(SIZE, SIZE, dtype=dtype)
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        torch.mm(left, right, out=out)
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * SIZE**3 / fastest / 1e9


def recurrent(values: Any, inward: Any, recurrent: Any, *others: Any, **keywords: Any) -> int:
    """Of oneDNN's LSTM; from the shapes (T, B, inputs), (4 H, inputs) and (4 H, H)."""
    return 2 * values[0] * values[1] * inward[0] * (inward[1] + recurrent[1])  # type: ignore[no-any-return]


def recurrent_backward(*shapes: Any, **keywords: Any) -> int:
    return 2 * recurrent(*shapes)


def attention(questions: Any, keys: Any, answers: Any, *others: Any, **keywords: Any) -> int:
    return sdpa_flop_count(questions, keys, answers)


def attention_backward(gradient: Any, questions: Any, keys: Any, answers: Any, *others: Any, **keywords: Any) -> int:
    return sdpa_backward_flop_count(gradient, questions, keys, answers)


ON_CPU = {
    torch.ops.aten.mkldnn_rnn_layer: recurrent,
    torch.ops.aten.mkldnn_rnn_layer_backward: recurrent_backward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}
"""What PyTorch's counter does not know."""


def operations(name: str) -> int:
    """Of forward and backward pass of one batch."""
    workload = WORKLOADS[name]
    network = build(name, 0)
    arrays = workload.data(None, workload.batch_size, 0)
    x, y = torch.from_numpy(arrays.x), torch.from_numpy(arrays.y)
    with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
        LOSSES[workload.loss](network(x), y).backward()
    return counter.get_total_flops()


def main() -> None:
    print(
        json.dumps(
            {
                "float32": matrix_peak(torch.float32),
                "bfloat16": matrix_peak(torch.bfloat16),
                "operations": {name: operations(name) for name in sys.argv[1:] or WORKLOADS},
            }
        )
    )


if __name__ == "__main__":
    main()
