"""Who trains: each file has a function `prepare(job, **options)` that answers with a function that trains.

What `prepare` does is set-up; what the function it answers with does is timed. Every contender is used as its
documentation says, with everything off that is not training (progress bars, logs, checkpoints), and with PyTorch's
fused AdamW where it can be named: only the plain DataLoader loop has PyTorch's default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from benchmarks.speed.workloads import Array, Arrays, Workload

Predict = Callable[[Array], Array]
"""From rows to what the network says now, in evaluation mode."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a contender is to do."""

    workload: Workload
    arrays: Arrays
    epochs: int
    seed: int
    epoch_ended: Callable[[Predict], None] = lambda predict: None
    """To be called at the end of each epoch; an error that it raises ends the training."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out."""

    losses: list[float]
    """Of each epoch: the mean over its rows, measured while they were trained on."""
    held_out_loss: Callable[[], float]
    notes: dict[str, Any] = field(default_factory=dict)
    """What the contender chose by itself."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A way of training, and where it is."""

    title: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    needs: str = "torch"
    """The package that it is about."""
    peer: bool = True
    """Whether it may live in an environment of its own."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that have to be set before anything is imported."""

    def prepare(self, job: Job) -> Callable[[], Trained]:
        module = import_module(f"{__name__}.{self.module}")
        return module.prepare(job, **self.options)  # type: ignore[no-any-return]


CONTENDERS = {
    "sounding": Contender("Sounding", "trainer", {"plan": "measure"}, "sounding", peer=False),
    "sounding-reference": Contender(
        "Sounding, reference plan", "trainer", {"plan": "reference"}, "sounding", peer=False
    ),
    "pytorch-dataloader": Contender("PyTorch, DataLoader", "by_hand", {"resident": False, "fused": False}, peer=False),
    "pytorch-resident": Contender("PyTorch, resident", "by_hand", {"resident": True, "fused": True}, peer=False),
    "pytorch-tuned": Contender(
        "PyTorch, resident, best threads", "by_hand", {"resident": True, "fused": True, "tune": True}, peer=False
    ),
    "lightning": Contender("Lightning", "lightning_trainer", needs="lightning"),
    "skorch": Contender("skorch", "skorch_net", needs="skorch"),
    "transformers": Contender("Hugging Face Trainer", "transformers_trainer", needs="transformers"),
    "keras-torch": Contender("Keras, torch", "keras_on_torch", needs="keras", environment={"KERAS_BACKEND": "torch"}),
    "keras-jax": Contender("Keras, JAX", "keras_on_jax", needs="keras", environment={"KERAS_BACKEND": "jax"}),
}
BY_HAND = [name for name in CONTENDERS if name.startswith("pytorch")]
