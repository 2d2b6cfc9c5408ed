"""`torch.compile` for the step of a trainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from sounding.batches import Batch


def compiled(loss: Callable[[Batch], Tensor], *, cuda_graphs: bool = False) -> Callable[[Batch], Tensor]:
    """The same function, compiled for batches of the size that comes first; those of another size run as they are.

    loss:         a function or a method. It is compiled as code of its own: PyTorch gives up on code that it had to
                  compile again several times, which would strike networks trained after one another.
    cuda_graphs:  whether a step is recorded, and replayed as one launch.
    """
    function = getattr(loss, "__func__", loss)
    assert isinstance(function, FunctionType)
    own = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    own.__kwdefaults__ = function.__kwdefaults__
    bound = MethodType(own, loss.__self__) if isinstance(loss, MethodType) else own
    options: dict[str, Any] = {"mode": "reduce-overhead"} if cuda_graphs else {}
    with _quietly():
        quick = torch.compile(bound, dynamic=False, **options)
    size = 0

    def step(batch: Batch) -> Tensor:
        nonlocal size
        if not size:
            size = len(batch.rows)
            with _quietly():  # it is compiled when it is first called
                first: Tensor = quick(batch)
            return first
        outcome: Tensor = quick(batch) if len(batch.rows) == size else loss(batch)
        return outcome

    return step


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what PyTorch's compiler says to its own developers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield
