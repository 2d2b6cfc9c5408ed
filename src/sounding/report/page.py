"""The page of a run: one HTML file that needs nothing else, loads nothing and contains no script."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
import webbrowser
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

from sounding.errors import DataError
from sounding.report import figures, words
from sounding.report.contents import data_uri
from sounding.report.sections import sections
from sounding.tasks.painting import Painted

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0b6284"/>'
    '<path d="M16 5v17M11 17l5 6 5-6M8 27h16" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>'
)


def render(results: Mapping[str, Any], recipe_toml: str = "") -> str:
    """The page, from the plain values of `results.json` and the text of `recipe.toml`.

    A part whose values are missing is left out. Text from the data is shown as text, whatever it looks like.

    >>> "&lt;script&gt;" in render({"run": "runs/<script>"})
    True
    """
    environment, known = _environment(), words.present(results)
    style = _source(environment, "style.css")
    parts = sections(known, recipe_toml)
    return environment.get_template("page.html").render(
        title=Path(str(known.get("run") or known.get("source", ""))).name or "A run",
        results=known,
        sections=parts,
        style=Markup(style),  # our own file
        policy=_policy(style),
        icon="data:image/svg+xml;base64," + base64.b64encode(ICON.encode()).decode(),
    )


def write_report(folder: Path) -> Path:
    """Write `report.html` of a run folder, whole or not at all, and say where it is.

    Raises:
        DataError: if the folder holds no results of a finished run, or they cannot be read.
    """
    folder = Path(folder)
    source = folder / "results.json"
    if not source.is_file():
        raise DataError("there are no results", "give the folder of a run that has finished", file=source)
    try:
        results = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"this is not JSON: {error}", "resume the run to write it again", file=source) from None
    if not isinstance(results, dict):
        raise DataError("this holds no results", "resume the run to write it again", file=source)
    recipe = folder / "recipe.toml"
    page = render(results, recipe.read_text(encoding="utf-8") if recipe.is_file() else "")
    return _write_whole(folder / "report.html", page)


def write_varied(name: str, shown: Mapping[str, Any]) -> Path:
    """Write a page of varied examples alone, for a source that is not trained on yet: `NAME-augmented.html` here.

    shown: plain JSON values; see `varied_examples`.
    """
    stem = re.sub(r"[^\w-]+", "-", Path(name).name.split(".")[0]).strip("-") or "source"
    return _write_whole(Path(f"{stem}-augmented.html"), render({"source": name, "varied": shown}))


def write_painted(painted: Painted, out: Path) -> Path:
    """Write a page of one painting beside it: the pictures, and how the distances went."""
    pictures = {name: data_uri(getattr(painted, name)) for name in ("content", "style", "picture")}
    pair = {"original": pictures["content"], "painted": pictures["picture"]}
    known = {"style": pictures["style"], "pairs": [pair], "losses": painted.losses, "told": painted.told}
    return _write_whole(out.with_suffix(".html"), render({"source": out.stem, "figures": {"painted": known}}))


def open_in_browser(page: Path) -> bool:
    """Show a page in the user's browser; False where there is none."""
    return webbrowser.open(Path(page).resolve().as_uri())


@cache
def _environment() -> Environment:
    """The templates, compiled once. Nothing of the data is ever a template."""
    environment = Environment(
        loader=PackageLoader("sounding.report"),
        autoescape=True,
        undefined=ChainableUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = (
        words.number,
        words.percent,
        words.duration,
        words.plural,
        words.moment,
        words.shorten,
        words.as_text,
    )
    environment.filters.update({function.__name__: function for function in (*named, figures.bar)})
    environment.tests["picture"] = words.is_picture
    environment.tests["sound"] = words.is_sound
    return environment


def _shown(value: Any) -> Any:
    return words.MISSING if value is None else words.visible(value)


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(style: str) -> str:
    """What the browser may do with the page: apply this very style sheet, and show and play what is in the page."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    shown = "img-src data:; media-src data:"
    return f"default-src 'none'; style-src 'sha256-{digest}'; {shown}; base-uri 'none'; form-action 'none'"


def _write_whole(path: Path, text: str) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # a temporary file is closed to everyone else
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path
