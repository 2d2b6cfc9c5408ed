"""What a watch has seen of a training run: all that rules may look at."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sounding.watching.graph import Graph
from sounding.watching.tape import LossCall, Tape

if TYPE_CHECKING:
    from sounding.watching.experiments import Laboratory

KEPT_BATCHES = 8
"""Batches that are kept for experiments ..."""
KEPT_BYTES = 64 << 20
"""... as long as they take no more memory than this; one is kept in any case."""
WIDE_ROWS = 16
"""Of a batch whose targets have several numbers each: so many tell their spread."""
EARLIEST = 4
"""Steps before a loss is judged."""
WORSE = 1.5
"""Times the first loss, where harm is plain."""


@dataclass(slots=True)
class LayerInput:
    """What went into a layer with weights, in one step."""

    layer: str
    is_first: bool
    """Whether it comes from the batch, past no layer."""
    mean: float
    rms: float
    means: Tensor
    """By feature or channel."""
    deviations: Tensor


@dataclass(slots=True)
class Activation:
    """What came out of an activation function, in one step."""

    layer: str
    """The layer with weights before it."""
    kind: str
    alive: Tensor
    """By unit: whether it was other than zero for any example."""
    examples: int
    zeros: float
    """The fraction of entries that are zero."""
    saturated: float
    """The fraction of entries where the slope is less than a hundredth of the largest."""
    deviation: float
    """The mean over units of the deviation over examples."""


@dataclass(slots=True)
class Step:
    """One step that was looked at closely."""

    number: int
    loss: float
    rates: list[float]
    """Learning rates, by parameter group."""
    gradients: dict[str, float] = field(default_factory=dict)
    """By parameter: the norm after the backward pass. Parameters without a gradient are left out."""
    applied: dict[str, float] = field(default_factory=dict)
    """The same as the optimizer was given them: clipped, or lost."""
    weights: dict[str, float] = field(default_factory=dict)
    """Norms before the update."""
    updates: dict[str, float] = field(default_factory=dict)
    """Norms of the difference that the update made."""
    backwards: int = 1
    """Backward passes since the step before."""
    stale: bool = False
    """Whether gradients were there before the first of them."""
    training: bool = True
    inputs: list[LayerInput] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)
    zeros: dict[str, float] = field(default_factory=dict)
    """By weight matrix, where layers compute in float16: the part of its gradient that is zero at the update."""

    @property
    def gradient_norm(self) -> float:
        """Of all parameters together."""
        return math.sqrt(sum(norm * norm for norm in self.gradients.values()))

    @property
    def update_ratios(self) -> dict[str, float]:
        """By parameter: the norm of the update relative to the weights', where there are weights."""
        return {name: norm / self.weights[name] for name, norm in self.updates.items() if self.weights[name] > 0}


@dataclass(slots=True)
class Validation:
    """One pass over rows that are not trained on."""

    step: int
    """Training steps before it."""
    losses: list[float] = field(default_factory=list)
    """By batch."""
    sizes: list[int] = field(default_factory=list)
    training_modules: list[str] = field(default_factory=list)
    """Dropout and batch norms that were in training mode."""
    moved_statistics: bool = False
    """Whether running statistics changed meanwhile."""
    outputs: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    """By batch, in the first validation: fingerprints of its rows."""
    told: float | None = None
    score: float | None = None
    """What the answers are judged by, where that was told, too: an accuracy, a mean average precision."""
    higher_is_better: bool = True
    """Of the score."""

    @property
    def loss(self) -> float | None:
        """The mean over its examples: as told, or as seen; none where nothing was."""
        if self.told is not None:
            return self.told
        if not self.losses:
            return None
        return sum(a * b for a, b in zip(self.losses, self.sizes, strict=True)) / sum(self.sizes)


@dataclass(frozen=True, slots=True)
class Lost:
    """Where numbers stopped being finite."""

    step: int
    what: str
    """`inputs`, `targets`, `weights`, `the output of ReLU`, `the loss`."""
    layer: str
    rows: list[int]
    """The examples of the batch, the first ten."""
    operation: str = ""
    """What went wrong in the loss, in words: `the logarithm of zero`."""


@dataclass(slots=True)
class Seen:
    """All that was seen of one player: a model and its optimizer."""

    name: str
    model: nn.Module
    optimizer: Optimizer | None
    losses: list[float] = field(default_factory=list)
    """Of every step that was taken."""
    rates: list[float] = field(default_factory=list)
    """The learning rate of the first group, of every step."""
    steps: list[Step] = field(default_factory=list)
    """Those that were looked at closely."""
    validations: list[Validation] = field(default_factory=list)
    graph: Graph | None = None
    """Of the step that is looked at now; what autograd kept is gone after the backward pass."""
    calls: list[LossCall] = field(default_factory=list)
    """Loss functions called in the last step that was looked at."""
    combined: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    tapes: deque[Tape] = field(default_factory=lambda: deque(maxlen=KEPT_BATCHES))
    targets: list[Tensor] = field(default_factory=list)
    """Targets of the steps that were looked at."""
    trained_rows: set[int] = field(default_factory=set)
    """Fingerprints of the rows of the steps that were looked at."""
    called: set[str] = field(default_factory=set)
    """Modules with parameters of their own that took part in a training step."""
    lost: Lost | None = None
    """Set when the loss was not finite for the first time."""
    over_time: dict[str, list[float]] = field(default_factory=dict)
    """Of a recurrent network, when training is over: how much of the gradient each step of a sequence gets, by the
    weights of the `start` and of the `end`."""
    ended: bool = False
    """Whether training is over."""
    others: list[Seen] = field(default_factory=list)
    """The other players."""
    laboratory: Laboratory = None  # type: ignore[assignment]
    """Where suspicions are put to the test, on copies."""
    _ignorance: tuple[int, float | None] = (0, None)
    """Of so many targets."""

    @property
    def last(self) -> Step:
        """The step that was looked at last."""
        return self.steps[-1]

    @property
    def done(self) -> int:
        """Steps taken."""
        return len(self.losses)

    @property
    def call(self) -> LossCall | None:
        """The loss function, if it is one of PyTorch's."""
        return self.calls[-1] if self.calls else None

    def trainable_calls(self) -> list[str]:
        """Parameters that the last step could train, of the modules that took part in one; others may be frozen yet."""
        return [name for name in self.last.weights if name.rpartition(".")[0] in self.called]

    def recent(self, count: int) -> list[float]:
        """The losses of the last steps."""
        return self.losses[-count:]

    def is_falling(self, share: float = 0.02) -> bool:
        """Whether the loss of late is lower than before that by more than its own noise."""
        count = min(len(self.losses) // 3, 50)
        if count < 3:
            return False
        late, early = self.losses[-count:], self.losses[-2 * count : -count]
        noise = _deviation(late) / math.sqrt(count)
        return fmean(early) - fmean(late) > max(2 * noise, share * abs(fmean(early)))

    @property
    def baseline(self) -> float | None:
        """`ignorance`, on the scale of the losses: these may be sums of several, scaled, or have more terms."""
        ignorance = self.ignorance
        if ignorance is None or self.call is None or not self.steps:
            return ignorance
        value = self.call.mean
        times = self.last.loss / value if value else 1.0
        return ignorance * times if math.isfinite(times) and times > 0 else ignorance

    @property
    def ignorance(self) -> float | None:
        """The loss of the best answer that ignores the inputs, where the loss function is known."""
        call = self.call
        if call is None or not self.targets:
            return None
        if self._ignorance[0] != len(self.targets):  # several rules ask after each step that is looked at
            target = torch.cat([one.flatten() if one.ndim < 2 else one[:WIDE_ROWS] for one in self.targets[-64:]])
            self._ignorance = len(self.targets), constant_loss(call, target)
        return self._ignorance[1]

    def headway(self) -> float:
        """The part of the loss that is gone: of that of ignoring the inputs where it is known, else of the first."""
        progress = self.progress()
        if progress is not None:
            return progress
        if len(self.losses) < 3:
            return 0.0
        return 1 - median(self.recent(min(20, max(3, len(self.losses) // 5)))) / max(abs(self.losses[0]), 1e-12)

    def has_risen(self) -> bool:
        """Whether the loss of late is far above the first one."""
        late = sorted(self.recent(5))
        return len(self.losses) >= EARLIEST and not late[len(late) // 2] <= WORSE * max(self.losses[0], 1e-12)

    def update_ratio(self, step: Step | None = None) -> float:
        """The median over weight matrices of the norm of an update, the last one, relative to that of the weights."""
        matrices = {name for name, parameter in self.model.named_parameters() if parameter.ndim > 1}
        ratios = (step or self.last).update_ratios
        return median([ratio for name, ratio in ratios.items() if name in matrices] or [0.0])

    def progress(self) -> float | None:
        """How far the loss of late has come from that of ignoring the inputs (0) towards nothing (1)."""
        baseline = self.baseline
        if baseline is None or baseline <= 0 or len(self.losses) < 3:
            return None
        return 1 - median(self.recent(min(20, max(3, len(self.losses) // 5)))) / baseline


def constant_loss(call: LossCall, target: Tensor) -> float | None:
    """The least loss of an answer that is the same for every example."""
    if call.name in {"cross_entropy", "nll_loss"} and not target.is_floating_point():
        target = target[(target >= 0) & (target < call.classes)]
        if not len(target):
            return None
        shares = torch.bincount(target.flatten(), minlength=2).double() / target.numel()
        return float(-(shares[shares > 0] * shares[shares > 0].log()).sum())
    if call.name in {"cross_entropy"}:
        shares = target.double().mean(0)
        return float(-(shares[shares > 0] * shares[shares > 0].log()).sum())
    if call.name in {"binary_cross_entropy", "binary_cross_entropy_with_logits"}:
        share = target.double().mean(0).clamp(1e-12, 1 - 1e-12)
        return float(-(share * share.log() + (1 - share) * (1 - share).log()).mean())
    if call.name == "mse_loss":
        return float(target.double().var(0, correction=0).mean())
    if call.name == "l1_loss":
        return float((target.double() - target.double().median(0).values).abs().mean())
    return None


def _deviation(values: Sequence[float]) -> float:
    mean = fmean(values)
    return math.sqrt(fmean((value - mean) ** 2 for value in values))
