"""The page in a real browser: headless Chromium, spoken to over its debugging pipe."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sounding.report import render, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is neither chromium nor google-chrome"),
]

ON_PIPES_3_AND_4 = (
    "import fcntl, os, sys\n"
    "spare = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]\n"
    "os.dup2(spare[0], 3), os.dup2(spare[1], 4)\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
).split()


class Browser:
    """A headless Chromium that opens one page at a time and remembers what the page asked for and complained of."""

    def __init__(self, folder: str) -> None:
        assert CHROMIUM is not None
        hears, self._to = os.pipe()
        self._from, says = os.pipe()
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", ON_PIPES_3_AND_4, str(hears), str(says), *command],
            pass_fds=(hears, says),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(hears)
        os.close(says)
        self._buffer, self._count, self._events = b"", 0, list[dict[str, Any]]()
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def open(self, page: Path, *, width: int, dark: bool = False) -> None:
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        self.call("Page.navigate", url=page.as_uri())
        self._wait("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def requests(self) -> list[str]:
        """The addresses that the page asked for, itself and pictures inside it left out."""
        asked = [event["request"]["url"] for event in self._seen("Network.requestWillBeSent")]
        return [url for url in asked[1:] if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """What the console of the page says, and errors that nobody caught."""
        said = [event["entry"]["text"] for event in self._seen("Log.entryAdded")]
        said += [str(event["args"]) for event in self._seen("Runtime.consoleAPICalled")]
        return said + [str(event) for event in self._seen("Runtime.exceptionThrown")]

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def call(self, method: str, **parameters: Any) -> Any:
        return self._call(method, self._session, **parameters)

    def close(self) -> None:
        self._call("Browser.close")
        self._process.wait(30)
        os.close(self._to)
        os.close(self._from)

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        os.write(self._to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _wait(self, method: str) -> None:
        while not self._seen(method):
            self._events.append(self._next())

    def _seen(self, method: str) -> list[Any]:
        return [event["params"] for event in self._events if event.get("method") == method]

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            self._buffer += os.read(self._from, 1 << 16)
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Chromium may still write to it
        opened = Browser(folder)
        yield opened
        opened.close()


def test_a_page_that_loads_something_would_be_noticed(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><img src="http://127.0.0.1:9/x.png"><script>console.log(1); gone()</script>')
    browser.open(page, width=1280)
    assert browser.requests() == ["http://127.0.0.1:9/x.png"]
    assert len(browser.complaints()) >= 2


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["digits", "tumours", "diabetes"])
def test_the_page_is_quiet_fits_and_follows_the_colours_of_the_user(
    browser: Browser, tmp_path: Path, request: pytest.FixtureRequest, name: str, width: int, dark: bool
) -> None:
    results = request.getfixturevalue(name)
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(request.getfixturevalue("recipe_toml"), encoding="utf-8")
    browser.open(write_report(tmp_path), width=width, dark=dark)
    assert browser.requests() == []
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width  # nothing to scroll sideways
    assert browser.evaluate("document.querySelector('h1').innerText") == results["verdict"]["headline"]
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (brightness < 200) if dark else (brightness > 700)
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert len(browser.screenshot()) > 10_000


@pytest.mark.parametrize("width", [390, 1280])
def test_names_that_look_like_code_do_nothing(browser: Browser, tmp_path: Path, tumours: Any, width: int) -> None:
    payload = "</title></style><script>document.taken=1</script><img src=http://127.0.0.1:9/ onerror='taken=1'>"
    hostile = json.loads(json.dumps(tumours).replace("worst", json.dumps(payload)[1:-1]))
    hostile["run"] = f"runs/{payload}"
    page = tmp_path / "page.html"
    page.write_text(render(hostile, payload), encoding="utf-8")
    browser.open(page, width=width)
    assert browser.requests() == []
    assert browser.complaints() == []
    assert browser.evaluate("[document.taken, window.taken].every(value => value === undefined)")
    assert browser.evaluate("document.images.length + document.scripts.length") == 0
    assert payload in browser.evaluate("document.body.textContent")
    assert browser.evaluate("document.documentElement.scrollWidth") == width


def test_a_pointer_over_a_curve_reads_out_its_values(browser: Browser, tmp_path: Path, digits: Any) -> None:
    page = tmp_path / "page.html"
    page.write_text(render(digits), encoding="utf-8")
    browser.open(page, width=1280)
    browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    place = browser.evaluate(
        "(() => { const strip = document.querySelectorAll('#learning .probe .strip')[19];"
        "strip.scrollIntoView({block: 'center'}); const box = strip.getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    read = browser.evaluate(
        "[...document.querySelectorAll('.probe .reading')]"
        ".filter(text => getComputedStyle(text).visibility === 'visible').map(text => text.textContent)"
    )
    assert len(read) == 1
    assert read[0].startswith(f"epoch {digits['history'][19]['epoch']}, training ")
