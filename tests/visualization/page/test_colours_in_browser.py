"""Colours of the page in a real browser: scales of heatmaps, one colour a concept, edges that stay drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from crp.visualization import colours as palette
from crp.visualization import encoding as images
from crp.visualization import graph_wording, wording
from page_in_browser import VIEW, at


def opacities(page):
    """Of the heatmaps that are shown: of cards, of the graph's nodes, of the picture."""
    return page.run(
        f"[...document.querySelectorAll('{VIEW} .panel:not([hidden]) .where, {VIEW} .node .heat i, {VIEW} .picture')]"
        ".map(e => Number(getComputedStyle(e).opacity))"
    )


def seen(page, selector):
    """The heatmap of a card, pixel for pixel: uint8 [64, 64, 3]."""
    box = f"document.querySelector('{selector}').style"
    page.run(f"({box}.cssText += ';width:64px;height:64px;border-radius:0;transition:none')")
    picture = Image.open(io.BytesIO(page.screenshot(of=selector))).convert("RGB")
    page.run(f"({box}.cssText = '')")
    assert picture.size == (64, 64)
    return np.asarray(picture)


def test_the_scale_of_heatmaps_is_switched_by_keyboard(page, explanation):
    layer = explanation.layers[0]
    limit = images.shared_limit([part.heatmap for part in layer.ranked])
    part = min(layer.ranked, key=lambda part: images.colour_limit(part.heatmap))
    own = images.colour_limit(part.heatmap)
    nodes = [node.heatmap for node in explanation.graph.nodes if node.layer == layer.layer]
    limit = max(limit, images.shared_limit(nodes))
    card = f"#layer-0-concept-{part.concept}"
    page.click(f"{VIEW} .panel:not([hidden]) .fold summary")
    shared = opacities(page)
    assert min(shared) < 0.5
    text = f"document.querySelector('{VIEW} .panel:not([hidden]) .scale-note').innerText"
    assert page.run(text) == f"Heatmaps of this layer share one colour scale: colours are full at ±{limit:.3g}."
    expected = images.tinted(explanation.picture, part.heatmap, limit).astype(int)
    # pictures of two steps (levels of a small picture, opacity), each rounded
    assert np.abs(seen(page, f"{card} .heat") - expected).max() <= 4
    page.run("document.querySelector('[data-scale=own]').focus()")
    page.press(" ")
    assert page.run("document.querySelector('[data-scale=own]').getAttribute('aria-pressed')") == "true"
    assert set(opacities(page)) == {1}
    assert page.run(text) == "Each heatmap has its own colour scale: compare concepts by share, not by colour."
    assert page.run(f"document.querySelector('{card} .place .own').innerText") == f"full at ±{wording.number(own)}"
    expected = images.tinted(explanation.picture, part.heatmap).astype(int)
    assert np.abs(seen(page, f"{card} .heat") - expected).max() <= 4
    # what is printed has the scale that is chosen, and says which
    page.media(kind="print")
    assert page.run(text).startswith("Each heatmap has its own colour scale")
    page.run("document.querySelector('[data-scale=layer]').click()")
    assert page.run(text).startswith("Heatmaps of this layer share one colour scale")
    assert opacities(page) == shared
    page.media()
    # the large picture of a concept is on the scale of its card
    page.hover(f"{card} .word")
    large = f"Number(getComputedStyle(document.querySelector('{VIEW} .frame.concept .picture')).opacity)"
    assert page.run(large) == pytest.approx((own / limit) ** 0.5, abs=1e-3)
    full = f"document.querySelector('{VIEW} .full').innerText"
    assert page.run(full) == f"full at ±{wording.number(limit)}"
    page.run("document.querySelector('[data-scale=own]').click()")
    assert page.run(full) == f"full at ±{wording.number(own)}"
    page.mouse("Moved", (2, 2))
    assert page.run(full) == f"full at ±{wording.number(images.colour_limit(explanation.heatmap))}"


def test_a_concept_without_heatmap_shows_its_cells_on_the_scale_of_all_concepts(page, explanation):
    layer = explanation.layers[0]
    table = layer.concept_map.table
    peaks = np.abs(table).max((0, 1))
    shown = {part.concept for part in layer.ranked} | {node.concept for node in explanation.graph.nodes}
    weak = min(set(range(64)) - shown, key=lambda concept: peaks[concept])
    page.run(f"location.hash = 'layer3/{weak}'")
    page.run("new Promise(done => setTimeout(done, 50))")
    rect = f"document.querySelector('{VIEW} .frame.concept rect')"
    fade = (peaks[weak] / peaks.max()) ** 0.5
    assert page.run(f"document.querySelector('{VIEW} .full').innerText") == f"full at ±{peaks.max():.3g} a cell"
    assert page.run(f"Number(getComputedStyle({rect}).opacity)") == pytest.approx(fade, abs=1e-3)
    page.click("[data-scale=own]")
    assert page.run(f"getComputedStyle({rect}).opacity") == "1"


def test_a_concept_has_one_colour_in_all_views(page, explanation):
    """On cards, in the map, its legend, the ranking of a region and the graph, of every view."""
    colours = palette.concept_colours(explanation)
    found = set()
    for view in range(3):
        if view:
            page.click(f'[data-switch="{view}"]')
            page.run("dispatchEvent(new Event('beforeprint')); 1")  # puts in graphs that are out of sight
        page.drag(at(page, 0, 0), at(page, 6, 6))
        for kind, one, place in (
            ("card", ".card", ".chip"), ("node", ".node:not(.root)", ".chip"), ("legend", ".legend li", "i"),
            ("map", ".region-of", "g path"), ("ranking", ".ranking li", ".chip"),
        ):  # fmt: skip
            shown = page.run(
                f"[...document.querySelectorAll('{VIEW} {one}')].map(e => [e.dataset.layerName ?? "
                "Number(e.closest('[data-layer]').dataset.layer), Number(e.dataset.concept), "
                f"e.querySelector('{place}')])"
                ".filter(([, , c]) => c).map(([layer, concept, c]) => [layer, concept, "
                "c.tagName === 'path' ? getComputedStyle(c).fill : getComputedStyle(c).backgroundColor])"
            )
            assert shown
            for layer, concept, colour in shown:
                name = layer if isinstance(layer, str) else explanation.layers[layer].layer
                code = colours[name].get(concept, palette.OTHER)
                assert colour == f"rgb({', '.join(str(int(code[i : i + 2], 16)) for i in (1, 3, 5))})", (kind, concept)
                found.add(kind)
    assert found == {"card", "node", "legend", "map", "ranking"}


def test_all_edges_of_the_graph_stay_drawn(page, explanation):
    """The sentence above the graph counts them, so pointing at a concept makes none disappear."""
    count = (
        f"[...document.querySelectorAll('{VIEW} .edge')].filter(e => Number(getComputedStyle(e).strokeOpacity) > 0 && "
        "e.getTotalLength() > 0 && parseFloat(getComputedStyle(e).strokeWidth) >= 1).length"
    )
    lead = page.run(f"document.querySelector('{VIEW} .graph .lead').textContent")
    assert graph_wording.edges_drawn(explanation.graph) in lead
    assert page.run(count) == len(explanation.graph.edges)
    page.hover(f"{VIEW} .node:nth-child(3)")
    assert page.run(count) == len(explanation.graph.edges)
