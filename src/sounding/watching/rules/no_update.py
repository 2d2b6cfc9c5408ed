"""Weights that do not change: left out of the optimizer, cut off from the loss, or never given a gradient."""

from __future__ import annotations

from typing import ClassVar

import torch

from sounding.finding import Finding
from sounding.watching.experiments import LONG, Remedy, Twin
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

STEPS = 3
"""That have to pass without any change."""
JUDGED, HEADWAY, GAIN = 60, 0.5, 0.2
"""Steps after which a network that is trained in part is judged, what it must have learned by then not to be, and what
a copy that is trained as a whole must gain."""
DECAYED = 1e-3
"""Of its peak, below which a rate is at the end of its schedule."""


class NoUpdate(Rule):
    """The optimizer steps, and weights stay what they were.

    Trigger: parameters that can be trained are not the optimizer's; or a layer took part in the forward pass and no
    gradient reached it; or in three steps the backward pass reached no parameter at all; or gradients were there after
    the backward pass and gone at the step; or nothing changed in three steps at a rate that is not the end of a
    schedule.
    Harm: certain, those weights cannot learn. A part left out of the optimizer at the beginning of the network, as in
    fine-tuning, is no more than a note, unless the rest learns little without it in sixty steps and a copy that trains
    all of it gets further in 150.
    Remedy: build the optimizer from the parameters of this model; do not detach; zero gradients before the backward
    pass instead of after it.
    """

    name = "no_update"
    looks_at = "weights that are never updated"
    goes_by_loss = False
    asked_when_lost = True
    explains = ("underfit", "too_few_steps", "lr_too_low", "vanishing_gradient", "labels_shuffled")
    sources: ClassVar = ("Jiang et al. 2025, TrainCheck (OSDI)", "github.com/lucidrains/byol-pytorch, issue 93")

    def check(self, seen: Seen) -> Finding | None:
        if not seen.steps or seen.optimizer is None:
            return None
        return (
            self._left_out(seen)
            or self._cut_off(seen)
            or self._out_of_the_graph(seen)
            or self._lost_gradients(seen)
            or self._unchanged(seen)
        )

    def _left_out(self, seen: Seen) -> Finding | None:
        assert seen.optimizer is not None
        optimizers = [one.optimizer for one in (seen, *seen.others) if one.optimizer is not None]
        held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
        trainable = [name for name, p in seen.model.named_parameters() if p.requires_grad]
        absent = [name for name, p in seen.model.named_parameters() if p.requires_grad and id(p) not in held]
        if not absent:
            return None
        if len(absent) == len(trainable):
            return self.finding(
                seen,
                "the optimizer holds none of the model's parameters",
                "Each step changes something else: another model, or the weights of this one before it was rebuilt.",
                "build the optimizer from model.parameters(), after the model is complete",
                severity="error",
                parameters=absent[:10],
                confirmed="no parameter of the model is among the optimizer's",
            )
        beginning = absent == trainable[: len(absent)]
        harm = ""
        if beginning:  # as in fine-tuning: what matters is whether the rest learns all the same
            if seen.done < JUDGED and not seen.ended:
                return None
            if seen.done >= JUDGED and seen.headway() < HEADWAY and not seen.is_falling():
                if seen.laboratory.is_ready:
                    race = seen.laboratory.race(_held(absent), steps=LONG)
                    harm = str(race) if race.gain > GAIN else ""
                elif not seen.ended:
                    return None
        return self.finding(
            seen,
            f"{len(absent)} of {len(trainable)} parameters are not in the optimizer, {absent[0]} the first of them",
            "They keep the values they were drawn with."
            + (" That is as it should be where a pretrained part is kept frozen." if beginning and not harm else ""),
            "pass model.parameters() to the optimizer, or set requires_grad to False for what is to stay as it is",
            severity="info" if beginning and not harm else "warning",
            parameters=absent[:10],
            confirmed=harm or "compared with the optimizer's parameter groups",
        )

    def _cut_off(self, seen: Seen) -> Finding | None:
        step = seen.last
        called = [name for name in seen.trainable_calls() if name not in step.gradients]
        if len(seen.steps) < 2 or not called or not step.gradients:
            return None
        return self.finding(
            seen,
            f"no gradient reaches {called[0]}" + (f" and {len(called) - 1} more" if len(called) > 1 else ""),
            "These layers took part in the forward pass, and something between them and the loss cuts the graph: "
            "detach(), .data, a detour through NumPy, or torch.no_grad().",
            "keep the outputs of these layers as tensors of the graph up to the loss",
            severity="error",
            parameters=called[:10],
            confirmed="their gradients are absent after the backward pass of the loss",
        )

    def _out_of_the_graph(self, seen: Seen) -> Finding | None:
        steps = seen.steps[-STEPS:]
        if len(steps) < STEPS or any(step.gradients or not step.backwards or not any(step.rates) for step in steps):
            return None
        if any(any(step.updates.values()) for step in steps) or isinstance(seen.optimizer, torch.optim.LBFGS):
            return None
        if not all(step.weights for step in steps):
            return None  # no backward pass was seen: the loss was told
        trained = [name for name, parameter in seen.model.named_parameters() if parameter.requires_grad]
        if not trained:
            return None
        return self.finding(
            seen,
            "no gradient reaches any parameter of the model",
            "The loss was propagated back, but not to this model: it was computed from copies of the weights, or from "
            "another network.",
            "compute the loss from what model(inputs) answers, without detach(), .data or copies in between",
            severity="error",
            parameters=trained[:10],
            confirmed=f"in {STEPS} steps no parameter had a gradient after the backward pass, and none has changed",
        )

    def _lost_gradients(self, seen: Seen) -> Finding | None:
        steps = [step for step in seen.steps[-STEPS:] if any(step.gradients.values())]
        if len(steps) < STEPS or any(any(step.applied.values()) for step in steps):
            return None
        return self.finding(
            seen,
            "gradients are gone when the optimizer makes its step",
            "Something sets them to zero between the backward pass and the step, so that no weight is updated.",
            "call optimizer.zero_grad() before loss.backward(), not between it and optimizer.step()",
            severity="error",
            gradient_norm=steps[-1].gradient_norm,
            confirmed=f"in {STEPS} steps gradients were there after the backward pass and zero at the step",
        )

    def _unchanged(self, seen: Seen) -> Finding | None:
        steps = seen.steps[-STEPS:]
        if len(steps) < STEPS or any(any(step.updates.values()) or not any(step.rates) for step in steps):
            return None
        if not any(any(step.gradients.values()) for step in steps):
            return None  # nothing to learn from: for other rules to explain
        if max(steps[-1].rates) < DECAYED * max(seen.rates):
            return None  # the end of a schedule
        return self.finding(
            seen,
            f"no weight has changed in {STEPS} steps",
            "Gradients are there and the rate is above zero, but updates are lost: too small for the precision of the "
            "weights, or overwritten.",
            "keep the weights in float32, or raise the learning rate",
            severity="error",
            rate=steps[-1].rates[0],
            confirmed="weights before and after the steps are the same",
        )


def _held(names: list[str]) -> Remedy:
    """The remedy of giving these parameters to the optimizer, too."""

    def change(twin: Twin) -> None:
        parameters = dict(twin.model.named_parameters())
        twin.optimizer.add_param_group({"params": [parameters[name] for name in names]})

    return change
