"""For all tests, those in the documentation included: nothing depends on who starts them or is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when Keras is imported
collect_ignore = [
    f"src/sounding/watching/callbacks/{library}.py"
    for library in ("keras", "lightning", "transformers")
    if find_spec(library) is None
]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Encoded columns and plans go to a folder of the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> None:
    """Ctrl-C works here and in the processes that tests start, also where a shell started this in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
