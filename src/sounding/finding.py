"""What a check says: one shape for data checks, the training watch and the trust checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about a finding: words for people, and the change to the recipe when there is one."""

    text: str
    set: dict[str, Any] = field(default_factory=dict)
    """Recipe keys and their proposed values, such as `{"training.optimizer.learning_rate": 1e-4}`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing a check found out, with its evidence.

    >>> finding = Finding(rule="constant-column", severity="info", title="unit is constant: left out",
    ...                   evidence={"column": "unit", "value": "kg"})
    >>> finding.to_json()["severity"]
    'info'
    """

    rule: str
    """Stable name of the rule: with hyphens those of checks on data and runs, with underscores those of the watch."""
    severity: Severity
    """`info`: handled or good to know; `warning`: look at it; `error`: the result is not to be trusted."""
    title: str
    """One line in plain words."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """What was measured: plain JSON values (column, rows, layer, step, numbers)."""
    meaning: str = ""
    """Why it matters."""
    remedy: Remedy | None = None
    confirmed: str = ""
    """How it was confirmed, where an experiment did."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Finding:
        """The inverse of `to_json`."""
        remedy = values.get("remedy")
        return cls(**{**values, "remedy": Remedy(**remedy) if remedy else None})
