"""One small site for all tests that only read it."""

import pytest

from crp.visualization.site.site_maker import make_site
from tests.visualization.site import small_site as small


@pytest.fixture(scope="session")
def model():
    return small.network()


@pytest.fixture(scope="session")
def library(model, tmp_path_factory):
    return small.mined(tmp_path_factory.mktemp("mined"), model)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return small.pictures(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def made(model, library, files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "site"
    assert make_site(model, files, library, folder, **small.OPTIONS) == folder / "index.html"
    return folder
