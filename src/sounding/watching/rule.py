"""What a rule of the watch is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from sounding.finding import Finding, Remedy, Severity
from sounding.watching.experiments import STEPS
from sounding.watching.seen import Seen


class Rule(ABC):
    """Recognises one fault of training.

    A rule looks at what was seen after each step that was looked at closely, after each validation and at the end. It
    answers with a finding at most once. Where it is not certain by what it sees alone, it asks for a sign of harm and
    for an experiment on a copy of the model before it warns.
    """

    name: ClassVar[str]
    """As in `Finding.rule`; part of the interface."""
    looks_at: ClassVar[str]
    """In a few words, for those who want to know what was looked for where nothing was found."""
    goes_by_loss: ClassVar[bool] = True
    """Whether it takes a loss that falls for a good sign; such a rule is not asked about players that work against each
    other."""
    asked_when_lost: ClassVar[bool] = False
    """Whether it has something to say once the loss is no longer finite."""
    experiment: ClassVar[int] = 2 * STEPS
    """About so many steps are trained or replayed in its experiment."""
    explains: ClassVar[tuple[str, ...]] = ()
    """Rules whose findings follow from this one."""
    sources: ClassVar[tuple[str, ...]] = ()
    """Where trigger or remedy were published."""

    @abstractmethod
    def check(self, seen: Seen) -> Finding | None:
        """A finding, as soon as there is reason for one."""

    def finding(
        self,
        seen: Seen,
        title: str,
        meaning: str,
        remedy: str,
        *,
        severity: Severity = "warning",
        confirmed: str = "",
        change: dict[str, Any] | None = None,
        **evidence: Any,
    ) -> Finding:
        """Put a finding together; `change` holds the recipe keys that the remedy sets."""
        where = {"player": seen.name} if seen.others else {}
        return Finding(
            rule=self.name,
            severity=severity,
            title=title,
            evidence={"step": seen.done, **where, **evidence},
            meaning=meaning,
            remedy=Remedy(remedy, change or {}),
            confirmed=confirmed,
        )
