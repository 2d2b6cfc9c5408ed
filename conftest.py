"""For all tests, those in the documentation included: nothing is kept in the user's own cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Encoded columns and plans go to a folder of the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
