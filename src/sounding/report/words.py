"""Numbers, names and text the way people read them."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup

MISSING = "–"
THIN = "\u202f"
"""A narrow space that does not break, between a number and its unit."""

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "roc_auc": "area under the ROC curve",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
    "iou": "mean intersection over union",
    "dice": "mean Dice coefficient",
    "mean_accuracy": "mean accuracy of classes",
    "boundary_f1": "boundary F1",
    "map50": "mean average precision at 50 % overlap",
    "map": "mean average precision",
    "bleu": "BLEU",
    "bleu_lowercased": "BLEU, lower-cased",
    "chrf": "chrF",
    "exact_match": "right to the letter",
    "wer": "word error rate",
    "cer": "character error rate",
    "precision": "precision",
    "recall": "recall",
    "frechet_distance": "Fréchet distance",
    "mase": "mean absolute scaled error",
    "smape": "symmetric mean absolute percentage error",
    "standardised_mse": "mean squared error on standardised data",
    "standardised_mae": "mean absolute error on standardised data",
    "coverage": "coverage of the interval",
    "false_alarm_rate": "false alarms among normal rows",
    "alarm_rate": "rows called anomalies",
    "recall_at_10": "recall at 10",
    "ndcg_at_10": "NDCG at 10",
    "missed_at_10": "missed at 10",
}
"""What a metric is called in prose; one that is not here is called by its name, without underscores."""

PERCENTAGES = {
    *("accuracy", "balanced_accuracy", "calibration_error", "wer", "cer", "exact_match"),
    *("pixel_accuracy", "mean_accuracy"),
    *("false_alarm_rate", "recall", "precision", "alarm_rate", "coverage"),
}
"""Metrics that people read in percent."""

_SOUND = re.compile(r"data:audio/wav;base64,[A-Za-z0-9+/]+=*")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, changes of the writing direction, and halves of characters that UTF-8 cannot hold."""


def visible(value: object) -> str:
    r"""Text with every character that hides, reorders or breaks text spelled out; markup made by us stays as it is.

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if isinstance(value, Markup):
        return value
    return _UNSEEN.sub(_spelled, str(value))


def _spelled(match: re.Match[str]) -> str:
    return str(match[0]).encode("unicode_escape").decode("ascii")


def shorten(text: Any, limit: int) -> str:
    """Text of at most `limit` characters, the end replaced by an ellipsis.

    >>> shorten("ornithopter", 6)
    'ornit…'
    """
    whole = str(text)
    return whole if len(whole) <= limit else whole[: limit - 1].rstrip() + "…"


def ending(name: str, limit: int) -> str:
    """The last parts of a dotted name that fit into `limit` characters.

    >>> ending("network.blocks.0.change.1", 14)
    '…0.change.1'
    """
    if len(name) <= limit:
        return name
    cut = name[len(name) - limit + 1 :]
    return "…" + (cut.partition(".")[2] or cut)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; missing values, NaN and booleans are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 3) -> str:
    """A number with so many digits that mean something.

    >>> [number(value) for value in (0.012345, 3.14159, 23.0, 1234567, -0.5, float("nan"), 2.5e-7)]
    ['0.0123', '3.14', '23', '1,234,567', '−0.500', '–', '2.50e−7']
    """
    if not is_number(value):
        return MISSING
    size = abs(value)
    if size == 0 or (size < 1e12 and (size >= 1000 or value == int(value))):
        text = f"{value:,.0f}"
    elif 1e-4 <= size < 1000:
        text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    else:
        text = re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.{digits - 1}e}")
    return text.replace("-", "−")


def percent(value: Any, digits: int = 1) -> str:
    """A fraction in percent.

    >>> percent(0.8731).replace(THIN, " ")
    '87.3 %'
    """
    return f"{100 * value:.{digits}f}{THIN}%".replace("-", "−") if is_number(value) else MISSING


def score(metric: str, value: Any) -> str:
    """A value of a metric: in percent where people are used to it, with a second decimal close to 100 %.

    >>> score("accuracy", 0.9953).replace(THIN, " "), score("f1", 0.0182), score("rmse", 53.1234)
    ('99.53 %', '0.018', '53.1')
    """
    if metric in PERCENTAGES:
        return percent(value, _decimals(value))
    return f"{value:.3f}" if is_number(value) and 0.001 <= value <= 1 else number(value)


def interval(metric: str, pair: Any) -> str:
    """Both ends of an interval, or nothing where there is none.

    >>> interval("accuracy", [0.95, 0.992]).replace(THIN, " ")
    '95.0 to 99.2 %'
    """
    if not is_interval(pair):
        return ""
    low, high = pair
    if metric in PERCENTAGES:
        return f"{percent(low, _decimals(low)).removesuffix(f'{THIN}%')} to {percent(high, _decimals(low))}"
    return f"{score(metric, low)} to {score(metric, high)}"


def _decimals(fraction: Any) -> int:
    return 2 if is_number(fraction) and 0.99 <= fraction < 1 else 1


def is_interval(pair: Any) -> bool:
    """Whether a value is two finite numbers."""
    return isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 and all(map(is_number, pair))


def difference(metric: str, value: Any) -> str:
    """A difference of two values of a metric, with its sign; of percentages in points.

    >>> difference("accuracy", -0.003), difference("rmse", 1.25)
    ('−0.3 points', '+1.25')
    """
    if not is_number(value):
        return MISSING
    sign = "+" if value > 0 else ""
    return f"{sign}{100 * value:.1f} points".replace("-", "−") if metric in PERCENTAGES else f"{sign}{number(value)}"


def metric_name(metric: str) -> str:
    """A metric in prose.

    >>> metric_name("roc_auc"), metric_name("recall_at_10")
    ('area under the ROC curve', 'recall at 10')
    """
    return METRICS.get(metric, metric.replace("_", " "))


def is_sound(value: Any) -> bool:
    """Whether a value is a recording written out as a data URI of a WAV."""
    return isinstance(value, str) and _SOUND.fullmatch(value) is not None


def is_picture(value: Any) -> bool:
    """Whether a value is a picture written out as a data URI of a bitmap (drawings could hold other things)."""
    if not isinstance(value, str):
        return False
    head, comma, body = value.partition(";base64,")
    known = head in {f"data:image/{kind}" for kind in ("png", "jpeg", "gif", "webp")}
    return known and bool(comma) and body.isascii() and body.rstrip("=").replace("+", "").replace("/", "").isalnum()


def plural(count: Any, noun: str) -> str:
    """A count and what is counted.

    >>> plural(1, "row"), plural(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def duration(seconds: Any) -> str:
    """Seconds in the unit that fits.

    >>> [duration(value) for value in (0.004, 0.25, 42, 150, 7260)]
    ['< 0.1 s', '0.25 s', '42 s', '2 min 30 s', '2 h 1 min']
    """
    if not is_number(seconds):
        return MISSING
    if seconds < 0.1:
        return "< 0.1 s"
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(text: Any) -> str:
    """A time in ISO 8601 as a date people write; anything else as it is.

    >>> moment("2026-11-20T12:00:00Z")
    '20 November 2026, 12:00 UTC'
    """
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    zone = f" {when.tzname()}" if when.tzinfo else ""
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"


def sentence(text: str) -> str:
    """The same with a capital first letter.

    >>> sentence("accuracy on new rows")
    'Accuracy on new rows'
    """
    return text[:1].upper() + text[1:]


def present(value: Any) -> Any:
    """Plain values without what is missing: keys whose value is None, NaN or infinite are left out.

    In lists, whose positions count, None stands for such values.

    >>> present({"loss": float("nan"), "scores": [1.0, float("inf")]})
    {'scores': [1.0, None]}
    """
    if isinstance(value, Mapping):
        kept = {key: present(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None}
    if isinstance(value, list | tuple):
        return [present(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_text(value: Any) -> str:
    """A plain JSON value as text: numbers short, the rest as JSON.

    >>> as_text([1, "a"]), as_text(0.123456), as_text("plain")
    ('[1, "a"]', '0.123', 'plain')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return number(value)
    return json.dumps(value, ensure_ascii=False)


def settings(changes: Mapping[str, Any]) -> list[str]:
    """Changes of the recipe as arguments of the command line, quoted for the shell and exact.

    >>> settings({"data.test": 0.3, "network.name": "tabm", "data.kinds": {"zip code": "category"}})
    ['--set data.test=0.3', '--set network.name=tabm', "--set 'data.kinds.zip code=category'"]
    """
    flat: list[tuple[str, Any]] = []
    for key, value in changes.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        flat += [(f"{key}.{name}".rstrip("."), item) for name, item in inner]
    return [f"--set {shlex.quote(f'{key}={_as_toml(value)}')}" for key, value in flat]


def _as_toml(value: Any) -> str:
    """A word as it is; anything else as JSON, which TOML reads the same way where values are no tables."""
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value, ensure_ascii=False)
