"""What the page shows, section by section: from the plain values of a run to the values of a template.

Adding a section is one function in a file of this package, its name in `SECTIONS`, and one template. A function returns
None where the run has nothing for it, and the page leaves the section out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sounding.report.anomalies import anomalies
from sounding.report.carried import carried
from sounding.report.detections import detections
from sounding.report.forecasts import forecasts
from sounding.report.generated import generated
from sounding.report.imagined import imagined
from sounding.report.judged import comparison, verdict
from sounding.report.layers import layers
from sounding.report.learning import learning
from sounding.report.made import decisions, environment, network, recipe, use
from sounding.report.mistakes import calibration, errors, examples
from sounding.report.painted import painted
from sounding.report.recommended import recommended
from sounding.report.segmented import segmented
from sounding.report.source import data, findings
from sounding.report.translations import translations
from sounding.report.values import Results, Values
from sounding.report.varied import varied
from sounding.report.written import written


@dataclass(frozen=True)
class Section:
    """One part of the page: the name of its template and anchor, its heading, its values."""

    name: str
    heading: str
    values: Values


def sections(results: Results, recipe_toml: str) -> list[Section]:
    """The sections that this run has something for, in the order of the page.

    results:  without None and NaN, as `words.present` gives them.
    """
    made = [(name, heading, make(results, recipe_toml)) for name, (heading, make) in SECTIONS.items()]
    return [Section(name, heading, values) for name, heading, values in made if values is not None]


SECTIONS: dict[str, tuple[str, Callable[[Results, str], Values | None]]] = {
    "verdict": ("Verdict", verdict),
    "findings": ("Findings", findings),
    "data": ("Data", data),
    "varied": ("As the network sees them", varied),
    "painted": ("Painted", painted),
    "recommended": ("Recommended", recommended),
    "generated": ("Made up", generated),
    "forecasts": ("Forecasts", forecasts),
    "written": ("Written", written),
    "translations": ("Texts", translations),
    "detections": ("Boxes", detections),
    "segmented": ("Pictures", segmented),
    "learning": ("Learning", learning),
    "layers": ("Layer by layer", layers),
    "imagined": ("Codes", imagined),
    "anomalies": ("Strange rows", anomalies),
    "errors": ("Mistakes", errors),
    "calibration": ("Calibration", calibration),
    "examples": ("Most wrong", examples),
    "comparison": ("Comparison", comparison),
    "network": ("Network", network),
    "carried": ("Learned before", carried),
    "decisions": ("Decisions", decisions),
    "recipe": ("Recipe", recipe),
    "use": ("Use it", use),
    "environment": ("Environment", environment),
}
"""Each section's heading and where its values come from, in the order of the page."""
