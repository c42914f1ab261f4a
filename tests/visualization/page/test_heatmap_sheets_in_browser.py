"""Every card and node shows its own heatmap, pixel for pixel, though all lie on few pictures."""

import json

import numpy as np
import pytest
from PIL import Image

import example_explanations as examples
from crp.visualization import encoding as images
from crp.visualization.page.explanation_page import render
from page_in_browser import VIEW

# Enough for three rows of a sheet, the last one not full.
CONCEPTS = {"supporting": 8, "opposing": 6}


def heatmaps(value):
    """Of cards and nodes: the element, its heatmap, and where the scale of its layer ends."""
    for layer in value.layers:
        nodes = {node.key: node.heatmap for node in value.graph.nodes if node.layer == layer.layer}
        limit = images.shared_limit([*(part.heatmap for part in layer.ranked), *nodes.values()])
        for part in layer.ranked:
            yield f'.panel[data-layer-name="{layer.layer}"] .card[data-concept="{part.concept}"]', part.heatmap, limit
        for (name, concept), heatmap in nodes.items():
            yield f'.node[data-layer-name="{name}"][data-concept="{concept}"]', heatmap, limit


def seen(page, places, side):
    """What elements show at a size, of one picture of the page: each uint8 [side, side, 3]."""
    found = f"{json.dumps(places)}.map(place => document.querySelector(place))"
    page.run(
        f"{found}.forEach(e => {{ e.style.cssText += ';width:{side}px;height:{side}px;border-radius:0;transition:none';"
        " })"
    )
    corners = page.run(f"{found}.map(e => e.getBoundingClientRect()).map(b => [b.top + scrollY, b.left + scrollX])")
    shown = page.pixels()
    return [shown[round(top) : round(top) + side, round(left) : round(left) + side] for top, left in corners]


@pytest.mark.parametrize(("side", "shown"), [(64, 64), (160, 112)], ids=["exact", "compressed"])
def test_every_heatmap_is_that_of_its_concept(browser, tmp_path, side, shown):
    value = examples.explanation(shape=(side, side), patches=1, layers=("layer3", "layer4"), **CONCEPTS)
    file = tmp_path / "atlas.html"
    file.write_text(render(value))
    browser.open(file, height=4000)
    browser.run("document.querySelectorAll('.fold details').forEach(fold => { fold.open = true; })")
    found, wanted = [], []
    for tab, layer in enumerate(value.layers):
        browser.click(f"#tab-{tab}")
        of_layer = [(place, *rest) for place, *rest in heatmaps(value) if f'"{layer.layer}"' in place]
        found += seen(browser, [f"{VIEW} {place} .heat" for place, _, _ in of_layer], shown)
        for _, heatmap, limit in of_layer:
            whole = Image.fromarray(images.tinted(value.picture, heatmap, limit))
            wanted.append(np.asarray(whole.resize((shown, shown))))
    assert len(found) > 2 * sum(CONCEPTS.values())
    errors = np.array([[np.abs(one.astype(float) - other).mean() for other in wanted] for one in found])
    own = np.diag(errors)
    # a node of a concept with a card shows what its card does
    alike = np.array([[np.array_equal(one, other) for other in wanted] for one in wanted])
    assert own.max() < 6
    assert (np.where(alike, np.inf, errors).min(1) > 2 * own).all()
