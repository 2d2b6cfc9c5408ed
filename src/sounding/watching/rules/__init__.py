"""The rules of the watch, one file each; each class says in its docstring what it goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sounding.finding import Finding
from sounding.watching.rule import Rule
from sounding.watching.rules.bad_data import BadData
from sounding.watching.rules.bad_init import BadInit
from sounding.watching.rules.batch_mixing import BatchMixing
from sounding.watching.rules.class_imbalance import ClassImbalance
from sounding.watching.rules.corrupt_labels import CorruptLabels
from sounding.watching.rules.dead_relu import DeadRelu
from sounding.watching.rules.eval_mode_forgotten import EvalModeForgotten
from sounding.watching.rules.exploding_gradient import ExplodingGradient
from sounding.watching.rules.gan_collapse import GanCollapse
from sounding.watching.rules.inputs_not_normalised import InputsNotNormalised
from sounding.watching.rules.label_noise import LabelNoise
from sounding.watching.rules.labels_shuffled import LabelsShuffled
from sounding.watching.rules.leak import Leak
from sounding.watching.rules.lr_too_high import LearningRateTooHigh
from sounding.watching.rules.lr_too_low import LearningRateTooLow
from sounding.watching.rules.missing_nonlinearity import MissingNonlinearity
from sounding.watching.rules.no_update import NoUpdate
from sounding.watching.rules.numerics import Numerics
from sounding.watching.rules.order_bug import OrderBug
from sounding.watching.rules.over_regularised import OverRegularised
from sounding.watching.rules.overfit import Overfit
from sounding.watching.rules.saturation import Saturation
from sounding.watching.rules.scheduler_per_step import SchedulerPerStep
from sounding.watching.rules.shape_broadcast import ShapeBroadcast
from sounding.watching.rules.targets_not_normalised import TargetsNotNormalised
from sounding.watching.rules.too_few_steps import TooFewSteps
from sounding.watching.rules.train_mode_not_restored import TrainModeNotRestored
from sounding.watching.rules.underfit import Underfit
from sounding.watching.rules.vae_collapse import VaeCollapse
from sounding.watching.rules.vanishing_gradient import VanishingGradient
from sounding.watching.rules.wrong_output_loss_pair import WrongOutputLossPair
from sounding.watching.rules.zero_grad_missing import ZeroGradMissing

RULES: list[type[Rule]] = [
    NoUpdate,
    ZeroGradMissing,
    EvalModeForgotten,
    TrainModeNotRestored,
    ShapeBroadcast,
    WrongOutputLossPair,
    BadData,
    Numerics,
    Leak,
    BatchMixing,
    OrderBug,
    MissingNonlinearity,
    ClassImbalance,
    SchedulerPerStep,
    InputsNotNormalised,
    TargetsNotNormalised,
    BadInit,
    LearningRateTooHigh,
    ExplodingGradient,
    LearningRateTooLow,
    VanishingGradient,
    DeadRelu,
    Saturation,
    LabelsShuffled,
    LabelNoise,
    CorruptLabels,
    OverRegularised,
    Underfit,
    TooFewSteps,
    GanCollapse,
    VaeCollapse,
    Overfit,
]
"""All rules: what is certain by looking alone comes first, what needs experiments last."""

SEVERITIES = ("error", "warning", "info")


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Causes before what follows from them, errors before warnings before the rest, and as they arose.

    What follows from another finding names it in its evidence as `follows_from`.
    """
    explaining = {rule.name: rule.explains for rule in RULES}
    found = {finding.rule for finding in findings if finding.severity != "info"}
    ordered = []
    for finding in findings:
        causes = [name for name in explaining if name in found and finding.rule in explaining[name]]
        if causes:
            finding = replace(finding, evidence={**finding.evidence, "follows_from": causes[0]})
        ordered.append(finding)
    return sorted(ordered, key=lambda one: ("follows_from" in one.evidence, SEVERITIES.index(one.severity)))
