"""A phone, a zoomed window, paper, and the graph by keyboard."""

import pytest

from crp.visualization import encoding as images
from crp.visualization import wording
from page_in_browser import VIEW, caption, frame, pinned


def box(page, selector):
    return page.run(f"(b => [b.top, b.bottom, b.height])(document.querySelector('{selector}').getBoundingClientRect())")


def test_on_a_phone_the_picture_stays_in_sight_of_the_card_that_is_tapped(page, explanation):
    page.resize(390, 844)
    for part in explanation.layers[0].ranked[:3]:
        card = f"#layer-0-concept-{part.concept}"
        page.run(f"document.querySelector('{card}').scrollIntoView({{block: 'start'}})")
        page.click(f"{card} .pick")
        assert (frame(page), pinned(page)) == ("concept", [part.concept])
        assert f"Concept {part.concept} of" in caption(page)
        top, bottom, height = box(page, f"{VIEW} .stage")
        assert 0 <= top < 1
        assert height < 0.4 * 844
        # the heading of the card lies below it and not under it
        assert box(page, f"{card} h4")[0] >= bottom


def test_a_link_to_a_card_does_not_put_it_under_the_picture(browser, file, explanation):
    part = explanation.layers[0].ranked[-1]
    browser.open(file, f"layer3/{part.concept}", width=390, height=844)
    card = f"#layer-0-concept-{part.concept}"
    assert box(browser, f"{card} h4")[0] >= box(browser, f"{VIEW} .stage")[1]


def test_a_low_window_is_not_filled_by_the_picture(page):
    """1300 x 900 at 200 %: nothing sticks, and the picture is lower than the window."""
    page.resize(650, 450)
    assert page.run(f"getComputedStyle(document.querySelector('{VIEW} .stage')).position") != "sticky"
    assert box(page, f"{VIEW} .frames")[2] < 450
    assert page.run("document.documentElement.scrollWidth") <= 650


@pytest.mark.parametrize("chosen", ["map", "concept"])
def test_paper_has_the_scale_of_what_it_shows(page, explanation, chosen):
    """Whatever the screen shows, the heatmap of the output is printed: with its own scale and caption."""
    page.click(f"#layer-0-concept-{explanation.layers[0].ranked[0].concept} .pick")
    page.click(f"{VIEW} [data-show={chosen}]")
    page.media(kind="print")
    limit = f"±{wording.number(images.colour_limit(explanation.heatmap))}"
    shown = page.run(
        "(e => [e.checkVisibility({visibilityProperty: true}), e.innerText])"
        f"(document.querySelector('{VIEW} .scale'))"
    )
    assert shown[0]
    assert shown[1].split("\n")[-1].endswith(f"full at {limit}")
    assert page.run(f"document.querySelector('{VIEW} .stage > figcaption').innerText") == (
        f"Relevance for zebra: colours are full at {limit}, half as strong at a quarter of that."
    )


def focus(page):
    return page.run("(e => [e.dataset.layerName, Number(e.dataset.concept)])(document.activeElement)")


def test_the_graph_is_walked_by_arrow_keys(page, explanation):
    graph = explanation.graph

    def strongest(key, from_, to):
        edges = [edge for edge in graph.edges if getattr(edge, from_) == key]
        most = max(abs(edge.relevance) for edge in edges)
        return [list(getattr(edge, to)) for edge in edges if abs(edge.relevance) == most]

    page.run(f"document.querySelector('{VIEW} .node.root').focus()")
    page.press("ArrowUp")  # nothing is above it
    assert focus(page) == list(graph.root.key)
    page.press("ArrowDown")
    first = focus(page)
    assert first in strongest(graph.root.key, "upper", "lower")
    page.press("ArrowDown")
    second = focus(page)
    assert second in strongest(tuple(first), "upper", "lower")
    page.press("ArrowUp")
    assert focus(page) in strongest(tuple(second), "lower", "upper")
    row = page.run(
        f"[...document.querySelectorAll('{VIEW} .node[data-layer-name=layer3]')]"
        ".map(e => [e.getBoundingClientRect().left, Number(e.dataset.concept)])"
    )
    assert row == sorted(row)  # they stand in the page as they are read
    page.press("Home")
    for _, concept in row:
        assert focus(page) == ["layer3", concept]
        page.press("ArrowRight")
    page.press("Home")
    page.press("End")
    assert focus(page) == ["layer3", row[-1][1]]
    page.press("ArrowLeft")
    assert focus(page) == ["layer3", row[-2][1]]
    assert "Go to its card" in page.run(f"document.querySelector('{VIEW} .graph .about').textContent")


def test_forced_colours_keep_what_colour_says(page):
    page.media(forced=True)
    kept = "(s => getComputedStyle(document.querySelector(s)).forcedColorAdjust)"
    for place in (".chip", ".sum", ".card .heat", ".map svg", ".net > svg"):
        assert page.run(f"{kept}({place!r})") == "none", place
