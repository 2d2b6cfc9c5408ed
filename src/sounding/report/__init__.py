"""One page from a run, and the card that goes with its model."""

from sounding.report.card import card as card
from sounding.report.page import open_in_browser as open_in_browser
from sounding.report.page import render as render
from sounding.report.page import write_report as write_report

__all__ = ["card", "open_in_browser", "render", "write_report"]
