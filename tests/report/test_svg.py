import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sounding.report import svg
from sounding.report.svg import Scale

NAN = float("nan")


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
def test_ticks_are_round_lie_inside_and_are_few(low: float, span: float) -> None:
    high = low + span
    ticks = svg.nice_ticks(low, high, 5)
    assert len(ticks) <= 6
    if len(ticks) > 2:
        step = ticks[1] - ticks[0]
        assert all(low - step * 1e-6 <= tick <= high + step * 1e-6 for tick in ticks)
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - factor) for factor in (1, 2, 5, 10)) < 1e-2


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8))
def test_a_scale_holds_whatever_numbers_there_are(values: list[float]) -> None:
    scale = Scale.around(values, 10, 110)
    for value in values:
        if math.isfinite(value):
            assert 10 <= scale(value) <= 110
    assert all(isinstance(label, str) for _, label in scale.ticks())


def test_a_logarithmic_scale_gives_equal_factors_equal_lengths() -> None:
    scale = Scale(1, 100, 0, 10, logarithmic=True)
    assert scale(10) == pytest.approx(5)
    assert [label for _, label in scale.ticks()] == ["1", "10", "100"]


def test_thinning_keeps_ends_extremes_and_gaps() -> None:
    values = [math.sin(i / 50) for i in range(100_000)]
    values[4321], values[77_777], values[50_000] = 99.0, -99.0, NAN
    kept = svg.thin(values, 300)
    assert len(kept) <= 420
    assert {0, 99_999, 4321, 77_777, 50_000} <= set(kept)
    assert kept == sorted(kept)
