"""The parts of a recipe that single tasks, or ways to begin, have for themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(kw_only=True, slots=True)
class PretrainingRecipe:
    """By what an encoder learns without labels, in the task `pretraining`."""

    method: Literal["auto", "masked", "denoising", "contrastive"] = "auto"
    """`masked` hides cells of tables or squares of pictures, `denoising` adds noise, `contrastive` (pictures) compares
    two views of each; `auto` is the one that measured best for the kind of input."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the lesson's constructor, such as `{"masked": 0.5}`."""


@dataclass(kw_only=True, slots=True)
class TransferRecipe:
    """What is carried over from a run that was trained before, and how it is trained on."""

    source: str = ""
    """The folder of that run: its encoder is the beginning, the head is new."""
    fingerprint: str = ""
    """SHA-256 of its schema and weights; filled in, and compared when the run is repeated."""
    rate: float = 0.3
    """Factor of the learning rate of the lowest layer that was carried over; those above it lie evenly between it and
    the head, which has the rate itself. Becomes `training.optimizer.rates`."""
    release: float = 0.3
    """Fraction of training after which the lowest such layer is trained too, those above it at even times before; 0
    trains all from the start, 1 none of them ever. Becomes `training.release`."""


@dataclass(kw_only=True, slots=True)
class AnomalyRecipe:
    """What counts as strange."""

    false_alarms: float = 0.05
    """The share of normal rows that may be called anomalies; the validation rows set the threshold."""
    known: Literal["leave_out", "train"] = "leave_out"
    """Rows that the target column marks as anomalies: left out of training and calibration, or trained on as all."""
    normal: list[str] = field(default_factory=list)
    """Labels of normal rows; when empty a word that means it, such as 0 or normal, else the most frequent label."""
    trimmed: float = 0.1
    """The share of each batch that teaches nothing, its strangest rows: anomalies among the training rows, known or
    not, shall not become usual. 0 where known ones are left out."""


@dataclass(kw_only=True, slots=True)
class ForecastingRecipe:
    """How far is looked ahead and back, in the task `forecasting`; series are told apart by `data.group`."""

    horizon: int = 0
    """Steps that are forecast; 0 takes one season."""
    history: int = 0
    """Steps that the network looks back on; 0 takes three and a half horizons or two seasons, if there are as many."""
    season: int = 0
    """Steps after which a series repeats itself, 1 for never; 0 finds it in the training rows."""
    stride: int = 0
    """Steps from one row that validates or measures to the next; 0 takes every row, and fewer where these would be very
    many. Training takes every row."""
    known: list[str] = field(default_factory=list)
    """Columns whose values are known for the steps that are forecast, too, such as holidays and prices."""
    quantiles: list[float] = field(default_factory=lambda: [0.1, 0.5, 0.9])
    """Of what may come; the lowest and the highest are the ends of the interval, whose coverage is measured."""


@dataclass(kw_only=True, slots=True)
class TranscriptionRecipe:
    """How texts are read from what a network says of each frame."""

    beam: int = 8
    """Beginnings of texts that the search keeps; 1 takes the most probable alignment instead."""


@dataclass(kw_only=True, slots=True)
class TranslationRecipe:
    """How texts are cut up, and how others are written from them."""

    subwords: int = 4000
    """Pieces of words that source and target share, bytes included; rare words are made of several."""
    beam: int = 4
    """Beginnings of a text that the search keeps; 1 takes the likeliest subword at each place."""
    length_penalty: float = 0.6
    """Exponent of the penalty by which log-probabilities are divided: 0 leaves them, more favours longer texts."""
    longest: float = 2.0
    """A text that is written has at most so many times the subwords of its source, and ten."""


@dataclass(kw_only=True, slots=True)
class SegmentationRecipe:
    """How a class is learned and found for every pixel, in the task `segmentation`."""

    loss: Literal["cross_entropy", "focal", "dice", "cross_entropy+dice", "focal+dice"] = "cross_entropy"
    """Over the pixels of a picture that have a class; see `tasks/map_losses.py`."""
    focus: float = 2.0
    """Exponent of the focal loss: the larger, the less count pixels that are right already."""
    crop: int = 256
    """Side in pixels of the pieces of pictures that are trained on; 0 takes whole pictures."""
    pieces: int = 0
    """So many of each picture make an epoch; 0 takes one of each, and more of fewer than 64 pictures."""
    scale: float = 2.0
    """Pictures are enlarged, or made smaller, by up to this factor while training; 1 leaves their size."""
    turn: float = 10.0
    """They are turned by up to so many degrees, either way."""
    flip: Literal["none", "sideways", "all"] = "sideways"
    """Half of them are mirrored left to right; `all` also upside down, and turned by quarters."""
    elastic: float = 0.0
    """Standard deviation, in pixels, of the displacements by which pieces are deformed (Ronneberger et al. 2015); 10 is
    usual for tissue under a microscope."""
    elastic_spacing: int = 64
    """Pixels from one displacement to the next; between them they are interpolated."""
    colour: float = 0.3
    """Their brightness, contrast and saturation change by up to this share. With `training.augment` "none" pictures are
    only cut."""
    tile: int = 768
    """Side in pixels of the tiles in which larger pictures are predicted; 0 predicts all of them whole."""
    overlap: float = 0.25
    """The least share of a tile that the next one covers, too."""
    mirrored: bool = False
    """Whether a picture is also predicted mirrored, and the mean of both counts, in twice the time; with `flip` "all"
    also turned by quarters, in eight times the time."""


@dataclass(kw_only=True, slots=True)
class GenerationRecipe:
    """The game of generator and discriminator, in the task `generation` alone."""

    loss: Literal["relativistic", "non_saturating", "hinge", "wasserstein"] = "relativistic"
    """Of both players; see `tasks/adversarial_losses.py`."""
    penalty: float = 1.0
    """Weight of what the slope of the discriminator costs: R1 + R2, or the gradient penalty of `wasserstein`, for which
    10 is usual; 0 leaves it out."""
    penalised: float = 1.0
    """Fraction of the rows of a batch on which that slope is measured: each row costs as much time as all else."""
    discriminator_rate: float = 1.0
    """Factor of the learning rate for the discriminator: two time scales, where it is not 1."""


@dataclass(kw_only=True, slots=True)
class StyleRecipe:
    """How pictures are painted in the style of another, in the task `style` and by `sounding style`."""

    picture: str = ""
    """The picture file whose style is wanted."""
    backbone: str = "random"
    """Whose features are compared: the folder of a run that learned to tell pictures apart, `hf:NAME_OR_FOLDER` for an
    encoder from elsewhere, or `random` filters that were never trained."""
    content_weight: float = 3.0
    """Weight of the distance to the picture as it was."""
    style_weight: float = 10.0
    """Weight of the distance to the style."""
    smoothness: float = 3.0
    """Weight of the squared steps from pixel to pixel (total variation)."""
    size: int = 256
    """Pixels of the longer side that is painted, and that style is taken from, at most."""
    steps: int = 200
    """Steps of Adam on the pixels of one picture, for `sounding style`."""
    rate: float = 0.02
    """Its learning rate."""


@dataclass(kw_only=True, slots=True)
class LanguageRecipe:
    """How running text is learned and continued, in the task `language-modeling`."""

    context: int = 128
    """Tokens that are read together: no token is foretold from more than so many before it."""
    pass_tokens: int = 500_000
    """The most tokens of an epoch: a longer text takes several of them to be read once, so that it is validated in
    between."""
    length: int = 500
    """Tokens that are written behind a prompt."""
    temperature: float = 0.8
    """Divides logits before a token is drawn: below 1 likely ones become likelier; 0 takes the likeliest."""
    top_k: int = 0
    """Only so many of the likeliest tokens are drawn from; 0 is all of them."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability are drawn from."""


@dataclass(kw_only=True, slots=True)
class RecommendationRecipe:
    """Who met what, in the task `recommendation`: each row is one interaction of a user with an item."""

    user: str = "user"
    """The column of users."""
    item: str = "item"
    """The column of items."""
    users: str = ""
    """A second source with a row for each user: its columns are put beside every interaction of that user."""
    items: str = ""
    """The same for items."""
    feedback: Literal["auto", "explicit", "implicit"] = "auto"
    """`explicit` predicts the target, a rating; `implicit` ranks all items by what users chose, whatever the target is;
    `auto` is explicit where a target is named."""
    split: Literal["rows", "last"] = "rows"
    """`last`: of each user the last interaction by `data.time` tests, the one before it validates. `rows` divides the
    rows as `data.test`, `data.time` and `data.group` say."""
    negatives: int = 0
    """Implicit feedback: items drawn for each interaction that the chosen one has to outdo; 0 takes all items."""
    top: int = 10
    """Items that are recommended to a user, and k of recall and NDCG."""


@dataclass(kw_only=True, slots=True)
class DetectionRecipe:
    """How pictures with boxes are varied while training, and which boxes are told, in the task `detection`."""

    mosaic: float = 0.5
    """Probability that a picture is put together of four."""
    mosaic_until: float = 0.8
    """Fraction of the epochs after which there are no more of these."""
    scale: float = 0.25
    """Pictures are made larger or smaller by factors from 1 - scale to 1 + scale."""
    shift: float = 0.1
    """They are moved by up to this share of their sides."""
    flip: bool = True
    """Whether half of them are mirrored left to right."""
    upside_down: bool = False
    """Whether half of them are mirrored top to bottom: where there is no up, as under a microscope."""
    colour: float = 0.2
    """Brightness, contrast and saturation are changed by factors from 1 - colour to 1 + colour."""
    overlap: float = 0.6
    """Of two boxes of a class that overlap more, that with the lower score is left out."""
    faintest: float = 0.01
    """Boxes with a lower score are never looked at."""
    most: int = 100
    """Boxes of a picture, those with the highest scores."""
    threshold: float = 0.0
    """The score from which on a box counts; 0 takes for each class that with the best F1 on the validation rows."""
    coverage: float = 0.9
    """The share of pictures whose true count is to lie in the interval that is told."""
