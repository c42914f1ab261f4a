"""The library of an undisturbed run, with which all others are compared."""

from pathlib import Path

import pytest

from tests.durability.subject import mined


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """The library of a run that was not interrupted."""
    return mined(tmp_path_factory.mktemp("whole") / "a.crp", checkpoint=60).path
