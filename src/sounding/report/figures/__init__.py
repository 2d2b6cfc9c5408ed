"""The figures of the page: pure functions from plain numbers to markup, drawn in the page's own colours.

Colours are classes of the page's style sheet, so a figure looks right in light, dark and print. Sizes are units
of a view box about as wide as a phone, so letters stay readable there. Values that are missing or not finite
leave a gap.
"""

from __future__ import annotations

from sounding.report.figures.bars import bar, histogram, sparkline, stacked_bar
from sounding.report.figures.dots import calibration_chart, scatter_chart
from sounding.report.figures.intervals import Measured, interval_chart
from sounding.report.figures.lines import Event, Line, line_chart, spans_widely
from sounding.report.figures.maps import MOST_CLASSES, MOST_STEPS, heat_map, time_map

__all__ = [
    "MOST_CLASSES",
    "MOST_STEPS",
    "Event",
    "Line",
    "Measured",
    "bar",
    "calibration_chart",
    "heat_map",
    "histogram",
    "interval_chart",
    "line_chart",
    "scatter_chart",
    "spans_widely",
    "sparkline",
    "stacked_bar",
    "time_map",
]
