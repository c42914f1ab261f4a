"""A browser for the tests that need one; without one they are skipped, with their reason."""

import pytest

from browsing import Browser, find_browser


@pytest.fixture(scope="module")
def browser():
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium: install chromium, or name one in CRP_TEST_BROWSER")
    started = Browser(program)
    yield started
    started.close()
