"""The kinds of column, and how a column's kind is recognised."""

from __future__ import annotations
