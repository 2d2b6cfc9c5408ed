from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def choose(what: str, name: str, known: Mapping[str, T]) -> T:
    """The value under a name, or a `ValueError` that names the nearest known one and lists them all.

    >>> choose("fruit", "aple", {"apple": 1, "pear": 2})
    Traceback (most recent call last):
    ValueError: unknown fruit "aple"; did you mean "apple"? There are: apple, pear
    """
    if name in known:
        return known[name]
    close = get_close_matches(str(name), known, n=1)
    there = f'did you mean "{close[0]}"? There' if close else "there"
    raise ValueError(f'unknown {what} "{name}"; {there} are: {", ".join(known)}')
