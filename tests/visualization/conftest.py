"""A browser for the tests that need one; without one they are skipped, with their reason."""

import pytest

from browsing import Browser, find_browser


@pytest.fixture(scope="session")
def chromium():
    """One process for all tests."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium: install chromium, or name one in CRP_TEST_BROWSER")
    started = Browser(program)
    yield started
    started.close()


@pytest.fixture(scope="module")
def browser(chromium):
    """The browser with a page that knows nothing of other modules; `open` gives each test a window of its own."""
    yield chromium
    chromium.renew()  # now, so that the former page costs nothing while other tests run
