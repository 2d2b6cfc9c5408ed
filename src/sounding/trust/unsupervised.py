"""Simple models for tasks that have nothing to predict."""

from __future__ import annotations

from collections.abc import Mapping

from sounding.trust.problem import Model

WITHOUT_TARGET: Mapping[str, Mapping[str, Model]] = {}
"""By task, the simple models by name: the guess first."""
