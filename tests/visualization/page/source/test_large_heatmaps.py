"""Heatmaps of very large pictures are drawn as means of blocks, on a scale of these means."""

import dataclasses

import numpy as np
import pytest

import example_explanations as examples
from crp.visualization import encoding as images
from crp.visualization import wording
from crp.visualization.page.explanation_page import render

SHAPE = 1200, 1800


@pytest.fixture(scope="module")
def explanation():
    """Relevance of single pixels, of which the means of blocks are about half as large."""
    random = np.random.default_rng(0)
    value = examples.explanation(shape=SHAPE, layers=("layer3",), supporting=1, opposing=0, patches=1)
    (layer,) = value.layers
    part = dataclasses.replace(layer.supporting[0], heatmap=random.normal(size=SHAPE).astype(np.float32))
    return dataclasses.replace(
        value,
        heatmap=random.normal(size=SHAPE).astype(np.float32),
        layers=(dataclasses.replace(layer, supporting=(part,)),),
        graph=None,
    )


def test_colours_are_full_where_the_page_says(explanation):
    page = render(explanation).replace(wording.SPACE, " ")
    (part,) = explanation.layers[0].ranked
    for text, heatmap in (("colours are full at ±{},", explanation.heatmap), ('data-full="±{}"', part.heatmap)):
        means = heatmap.reshape(SHAPE[0] // 2, 2, SHAPE[1] // 2, 2).mean(axis=(1, 3))
        limit = images.colour_limit(means)
        assert limit < 0.6 * images.colour_limit(heatmap)
        assert text.format(wording.number(limit)) in page
    assert "Heatmap colours are means over 2 × 2 pixels; all other numbers refer to the full size." in page
