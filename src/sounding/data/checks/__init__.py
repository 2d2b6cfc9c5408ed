"""What is odd about the data, found before the first training step. One file per check."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sounding.data.checks import classes, constants, drift, duplicates, groups, labels, leak, outliers
from sounding.data.checks.examined import Examined
from sounding.data.checks.identifiers import identifiers
from sounding.data.schema import Schema
from sounding.data.split import Split
from sounding.data.table import Table
from sounding.finding import Finding
from sounding.kinds import Encoded

__all__ = ["CHECKS", "Examined", "identifiers", "run_checks"]

CHECKS: dict[str, Callable[[Examined], Iterator[Finding]]] = {
    "leak": leak.check,
    "groups": groups.check,
    "duplicates": duplicates.check,
    "labels": labels.check,
    "classes": classes.check,
    "outliers": outliers.check,
    "constants": constants.check,
    "drift": drift.check,
}
"""Every check by name, those that can make a result worthless first; adding one is one file and one line here."""


def run_checks(table: Table, schema: Schema, split: Split, encoded: Encoded | None = None) -> list[Finding]:
    """What all checks find, warnings before information.

    schema:   fitted.
    encoded:  the table as the schema encodes it, if that has been done already.
    """
    examined = Examined(table, schema, split, schema.encode(table) if encoded is None else encoded)
    findings = [finding for check in CHECKS.values() for finding in check(examined)]
    order = ("error", "warning", "info")
    return sorted(findings, key=lambda finding: order.index(finding.severity))
