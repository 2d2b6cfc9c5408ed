"""One page from a run, and the card that goes with its model."""

from sounding.report.card import card as card
from sounding.report.contents import plain as plain
from sounding.report.page import open_in_browser as open_in_browser
from sounding.report.page import render as render
from sounding.report.page import write_painted as write_painted
from sounding.report.page import write_report as write_report
from sounding.report.page import write_varied as write_varied
from sounding.report.varied import varied_examples as varied_examples

__all__ = [
    "card",
    "open_in_browser",
    "plain",
    "render",
    "varied_examples",
    "write_painted",
    "write_report",
    "write_varied",
]
