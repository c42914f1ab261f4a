"""One page of three views for all browser tests of this folder: made once, page anew by every test."""

import pytest

import example_explanations as examples
from crp.visualization.atlases import Atlas


@pytest.fixture(scope="session")
def explanation():
    """An explanation of a class, of another one and of their difference."""
    return examples.beside(examples.explanation(patches=2), patches=2)


@pytest.fixture(scope="session")
def file(explanation, tmp_path_factory):
    """The page of `explanation`."""
    return Atlas(explanation).save(tmp_path_factory.mktemp("page") / "atlas.html")


@pytest.fixture
def page(browser, file):
    """The page of `explanation` in a browser; it must not complain, and must load nothing but itself."""
    browser.open(file)
    yield browser
    assert browser.complaints == []
    assert {address.split(":")[0] for address in browser.requests} <= {"file", "data"}
    assert [address for address in browser.requests if address.startswith("file")] == [file.resolve().as_uri()]
