"""A browser for the tests that need one; without one they are skipped, with their reason."""

import pytest

from browsing import Browser, find_browser


@pytest.fixture(scope="session")
def chromium():
    """One process for all tests; `open` gives each a page, a window and media of its own."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium: install chromium, or name one in CRP_TEST_BROWSER")
    started = Browser(program)
    yield started
    started.close()


@pytest.fixture(scope="module")
def browser(chromium):
    """The browser, in which pages remember nothing of other modules."""
    yield chromium
    chromium.run("try { localStorage.clear(); } catch { /* no page of a file is open */ } 1")
    chromium.send("Page.navigate", url="about:blank")  # where it costs nothing
    chromium.send("Page.resetNavigationHistory")
