"""What the page shows of a language model: what it writes, and where in a real text it was surprised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from sounding.report import words

SHADES = 6
"""Steps in which losses are coloured; each has its class in the style sheet."""
BITS_OF_A_SHADE = 1.5
"""Width of a step: a token with two to the so many times less probability is a shade darker."""
LONGEST = 2000
"""Letters of a sample."""


def written(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Samples by temperature, a stretch of the test text coloured by what each token cost, and samples on the way."""
    drawn = results.get("figures")
    known = drawn.get("language") if isinstance(drawn, Mapping) else None
    if not isinstance(known, Mapping):
        return None
    return {
        "samples": [
            (f"{one['temperature']:g}", str(one["text"])[:LONGEST])
            for one in known.get("samples") or []
            if words.is_number(one.get("temperature")) and one.get("text")
        ],
        "coloured": coloured(known.get("pieces") or [], known.get("losses") or []),
        "legend": [(number, words.number(2.0 ** -round(number * BITS_OF_A_SHADE, 9), 2)) for number in range(SHADES)],
        "way": [
            (words.number(one["epoch"]), str(one["text"]))
            for one in results.get("snapshots") or []
            if words.is_number(one.get("epoch")) and one.get("text")
        ],
    }


def coloured(pieces: list[Any], losses: list[Any]) -> list[tuple[int, str]]:
    """Neighbours of one shade joined: (shade, text), 0 for what was expected.

    >>> coloured(["a", "b", "c"], [0.1, 0.2, 3.0])
    [(0, 'ab'), (2, 'c')]
    """
    shades = [
        (min(int(loss / math.log(2) / BITS_OF_A_SHADE), SHADES - 1) if words.is_number(loss) else 0, str(piece))
        for piece, loss in zip(pieces, losses, strict=False)
    ]
    return [(shade, "".join(piece for _, piece in run)) for shade, run in groupby(shades, key=lambda pair: pair[0])]
