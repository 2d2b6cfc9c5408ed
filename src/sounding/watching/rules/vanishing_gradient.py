"""Gradients that do not reach the first layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sounding.finding import Finding
from sounding.watching.experiments import LONG, Twin
from sounding.watching.experiments import STEPS as SHORT
from sounding.watching.over_time import gradient_over_time, is_recurrent
from sounding.watching.relation import EXAMPLES, classes_of, examples, linear_agreement
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen, Step

RATIO = 1e-3
RATIO_OF_LOST, SIGNAL, STILL = 0.1, 0.03, 30
"""Where the signal is lost, too: the gradient of the first layer, what is left of the signal, and steps to wait."""
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
STEPS = 3
FIRST = 10
PATIENT, SHORTEST = 60, 8
"""Steps before sequences are judged, and steps that these have at least."""
HEADWAY = 0.1
GAIN = 0.1


class VanishingGradient(Rule):
    """The first layers get next to no gradient, and the network does not learn.

    Trigger: relative to its weights, the gradient of the first layer is less than a thousandth of the last one's in
    three steps that were looked at, and nearly all of the loss is still there after ten steps. Less than a tenth will
    do where the loss stands still after thirty steps and what goes into the last layer is all but the same for every
    example: the signal itself was lost on the way. In a recurrent network it is the first quarter of the sequence that
    gets less than a thousandth of the gradient of the last one, and the loss of sixty steps is still there.
    Confirmed: a copy with ReLU for sigmoid, tanh and softmax within the network and He initialisation gets further in
    fifty steps, or does so in 150 at most when the outputs of its hidden layers are normalised as well. Of sequences:
    a linear fit to their first quarter alone foretells targets, so that what matters is where no gradient comes.
    Remedy: ReLU with He initialisation, normalisation, skip connections; for sequences gates, as in a GRU or LSTM.
    """

    name = "vanishing_gradient"
    looks_at = "gradients that do not reach the first layers"
    explains = ("underfit", "lr_too_low", "labels_shuffled", "too_few_steps")
    sources: ClassVar = (
        "Glorot and Bengio 2010, AISTATS",
        "Hochreiter 1998, IJUFKS 6(2); Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063: over time",
        "Zhang et al. 2021, AutoTrainer (ICSE): norm of the first over the last below 1e-3",
    )

    def __init__(self) -> None:
        self._next, self._next_over_time = FIRST, PATIENT

    def check(self, seen: Seen) -> Finding | None:
        if len(seen.steps) < STEPS or not seen.laboratory.is_ready:
            return None
        if (found := self._over_time(seen)) is not None:
            return found
        if seen.done < self._next:
            return None
        ratios = [ratio for step in seen.steps[-STEPS:] if (ratio := first_to_last(step)) is not None]
        if len(ratios) < STEPS or max(ratios) >= RATIO_OF_LOST or seen.headway() > HEADWAY:
            return None
        if max(ratios) >= RATIO and (seen.done < STILL or seen.is_falling() or signal(seen.last) > SIGNAL):
            return None
        self._next = 2 * seen.done
        start = bool(seen.laboratory.start)
        races = (seen.laboratory.race(remedy, steps=steps, fresh=start) for remedy, steps in REMEDIES)
        race = next((race for race in races if race.gain > GAIN), None)
        if race is None:
            return None
        return self.finding(
            seen,
            f"the gradient of the first layer is {max(ratios):.1g} of the last one's",
            "Each layer passes on less of the gradient than it gets; the first ones stay as they were drawn.",
            "use ReLU with He initialisation, normalisation layers, or skip connections",
            change={"network.options.activation": "relu"},
            ratios=ratios,
            confirmed=str(race),
        )

    def _over_time(self, seen: Seen) -> Finding | None:
        """The same along the steps of a sequence."""
        if seen.done < self._next_over_time or seen.headway() > HEADWAY:
            return None
        if not is_recurrent(seen.model, [one.layer for one in seen.last.inputs]):
            return None
        self._next_over_time = 2 * seen.done
        gradient = gradient_over_time(seen.laboratory)
        if gradient is None or len(gradient) < SHORTEST:
            return None
        quarter = len(gradient) // 4
        ratio = float(gradient[:quarter].mean() / gradient[-quarter:].mean().clamp_min(1e-30))
        if not ratio < RATIO:
            return None
        inputs, targets = examples(seen.laboratory)
        if len(inputs) < EXAMPLES or inputs.ndim != 3:
            return None
        fit = linear_agreement(inputs[:, :quarter].flatten(1), classes_of(targets))
        if not fit.is_certain:
            return None
        return self.finding(
            seen,
            f"the first {quarter} of {len(gradient)} steps get {ratio:.1g} of the gradient of the last ones",
            "Each step back in time passes on less of the gradient: what came early is never tied to the answer.",
            "use gates (GRU or LSTM), attention, or an orthogonal recurrent matrix with a forget bias of 1",
            change={"network.options.cell": "lstm"},
            gradient_over_time=gradient.tolist(),
            confirmed=f"a linear fit to these alone is right in {fit.share:.0%}, where chance is {fit.chance:.0%}",
        )


def first_to_last(step: Step) -> float | None:
    """How the relative gradient of the first weight compares with that of the last; none with fewer than three."""
    layers = [f"{one.layer}.weight" for one in step.inputs]
    relative = [
        step.gradients[name] / step.weights[name]
        for name in dict.fromkeys(layers)
        if name in step.gradients and step.weights.get(name)
    ]
    if len(relative) < 3 or not relative[-1]:
        return None
    return relative[0] / relative[-1]


def signal(step: Step) -> float:
    """How much what goes into the last layer differs from example to example, relative to what the first one gets."""
    first, last = step.inputs[0], step.inputs[-1]
    return float(last.deviations.mean()) / max(float(first.deviations.mean()), 1e-12)


def open_up(twin: Twin) -> None:
    """Sigmoid, tanh and softmax become ReLU, but for the last module; weights are drawn after He et al. 2015."""
    last = list(twin.model.modules())[-1]
    for parent in list(twin.model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, (nn.Sigmoid, nn.Tanh, nn.Softmax)) and module is not last:
                setattr(parent, name, nn.ReLU())
    he(twin)


def normalised(twin: Twin) -> None:
    """The same, with what comes out of each hidden layer standardised over the batch: Ioffe and Szegedy 2015."""
    open_up(twin)
    layers = [module for module in twin.model.modules() if isinstance(module, LAYERS)]
    for layer in layers[:-1]:
        layer.register_forward_hook(lambda module, args, outputs: _standardised(outputs))


def _standardised(outputs: Tensor) -> Tensor:
    dims = (0, *range(2, outputs.ndim)) if outputs.ndim > 3 else tuple(range(outputs.ndim - 1))
    deviations = outputs.std(dims, keepdim=True, correction=0)
    return (outputs - outputs.mean(dims, keepdim=True)) / (deviations + 1e-5)


def he(twin: Twin) -> None:
    """Draw the weights of linear and convolutional layers after He et al. 2015."""
    with torch.no_grad():
        for module in twin.model.modules():
            if isinstance(module, LAYERS):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    module.bias.zero_()


REMEDIES = [(open_up, SHORT), (normalised, SHORT), (normalised, LONG)]
"""And in how many steps they have to help: deep networks need more."""
