"""Schedule-free AdamW: an average of the weights does what a falling learning rate does, at no fixed end.

Source: Defazio et al. 2024, arXiv:2405.15682, section 2 and the AdamW form of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class ScheduleFreeAdamW(Optimizer):
    """AdamW whose result is a running average of its own steps.

    There are three sequences of weights. The iterate z takes the steps; the average x of all z so far is the result;
    gradients are taken at y, between the two:

        y = (1 - beta1) z + beta1 x
        z <- z - lr * (g(y) / (sqrt(v) + eps) + weight_decay * y)      v: mean squared gradient, without its bias
        x <- (1 - c) x + c z                                           c: lr^2 / sum of all lr^2 so far

    The parameters hold y, where training goes on. To measure or to use the result, take x: `averaged` for a while,
    `use_average` at the end. Both are exact: going on afterwards gives the bits of a training that never looked.

    lr:            usually 1 to 10 times that of AdamW under a schedule. A warm-up helps; the squares of the rates
                   make steps of the warm-up count little in the average. No other schedule is needed.
    betas:         how far y is towards x, and the decay of v; each in [0, 1).

    A network with batch normalisation measured its running statistics at y: measure them anew at x
    (`sounding.training.averaging.recompute_batch_norm`) before using x.

    Raises:
        ValueError: for a rate, decay, eps or beta out of range.

    >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = ScheduleFreeAdamW([weight], lr=0.1)
    >>> for _ in range(100):
    ...     weight.grad = 2 * weight.detach()
    ...     optimizer.step()
    >>> with optimizer.averaged():
    ...     abs(weight.item()) < 0.2
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        weight_decay: float = 0.0,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        for name, value in (("lr", lr), ("weight_decay", weight_decay), ("eps", eps)):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name} is {value}, not a number of at least 0")
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas are {betas}, not two numbers in [0, 1)")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for y in group["params"]:
                if y.grad is None:
                    continue
                state = self.state[y]
                if not state:
                    state |= {"step": 0, "squared_rates": 0.0, "v": torch.zeros_like(y), "z": y.clone(), "x": y.clone()}
                state["step"] += 1
                state["squared_rates"] += group["lr"] ** 2

                v, z, x = state["v"], state["z"], state["x"]
                v.mul_(beta2).addcmul_(y.grad, y.grad, value=1.0 - beta2)
                root = (v / (1.0 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
                z.addcdiv_(y.grad, root, value=-group["lr"]).add_(y, alpha=-group["lr"] * group["weight_decay"])
                if group["lr"] > 0.0:
                    x.lerp_(z, group["lr"] ** 2 / state["squared_rates"])
                torch.lerp(z, x, beta1, out=y)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the parameters are the average x; afterwards y again, to the bit."""
        self.use_average()
        try:
            yield
        finally:
            self.use_gradient_point()

    @torch.no_grad()
    def use_average(self) -> None:
        """Make the parameters the average x: the result of training."""
        for y, state, _ in self._stepped():
            y.copy_(state["x"])

    @torch.no_grad()
    def use_gradient_point(self) -> None:
        """Make the parameters y, where the next gradient is taken: as `step` left them, to the bit."""
        for y, state, beta1 in self._stepped():
            torch.lerp(state["z"], state["x"], beta1, out=y)

    def _stepped(self) -> Iterator[tuple[Tensor, dict[str, Any], float]]:
        """Each parameter that was updated before, with its state and beta1; the others are x, y and z at once."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if self.state.get(parameter):
                    yield parameter, self.state[parameter], group["betas"][0]
