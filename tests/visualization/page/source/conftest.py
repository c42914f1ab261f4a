"""One page of one view as text: made once for both files of this folder, which read it without a browser."""

import pytest

import example_explanations as examples
from crp.visualization.page.explanation_page import render
from page_source import Page


@pytest.fixture(scope="package")
def explanation():
    return examples.explanation()


@pytest.fixture(scope="package")
def source(explanation):
    return render(explanation)


@pytest.fixture(scope="package")
def page(source):
    return Page(source)
