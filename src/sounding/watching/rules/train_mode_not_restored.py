"""Training while the whole model is in evaluation mode."""

from __future__ import annotations

from typing import ClassVar

from sounding.finding import Finding
from sounding.watching.probes import sensitive
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

STEPS = 2


class TrainModeNotRestored(Rule):
    """The model is still in evaluation mode when training goes on.

    Trigger: two steps in a row in which the model as a whole is in evaluation mode and has dropout or batch norms.
    Single modules in evaluation mode, such as frozen batch norms in fine-tuning, do not count.
    Harm: dropout no longer regularises and batch norms normalise by statistics that stand still.
    Remedy: `model.train()` at the start of each epoch.
    """

    name = "train_mode_not_restored"
    looks_at = "training in evaluation mode"
    goes_by_loss = False
    explains = ("overfit", "exploding_gradient")
    sources: ClassVar = ("Karpathy 2019, A Recipe for Training Neural Networks",)

    def check(self, seen: Seen) -> Finding | None:
        steps = seen.steps[-STEPS:]
        if len(steps) < STEPS or any(step.training for step in steps):
            return None
        wrong = sensitive(seen.model)
        if not wrong:
            return None
        since = next(step.number for step in seen.steps if not step.training)
        return self.finding(
            seen,
            f"training goes on in evaluation mode: {len(wrong)} modules such as {wrong[0]} do not do their work",
            "Dropout drops nothing, and batch norms use and keep old statistics.",
            "call model.train() at the start of each epoch",
            modules=wrong[:10],
            since=since,
            confirmed=f"seen in {STEPS} steps with a backward pass",
        )
