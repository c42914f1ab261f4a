"""Search and addresses of the page in a real browser."""

from page_in_browser import VIEW, focused, open_panels, pinned


def found(page):
    return page.run("[...document.querySelectorAll('#found:not([hidden]) li')].map(e => e.textContent)")


def test_search_finds_numbers_layers_and_classes(page, explanation):
    concept = explanation.layers[1].ranked[0].concept
    page.click("#search")
    page.type(f"layer4/{concept}")
    assert found(page)[0].startswith(f"layer4 · {concept}")
    page.press("Enter")
    assert (open_panels(page), pinned(page), found(page)) == ([1], [concept], [])
    page.click("#search")
    page.run("document.querySelector('#search').value = ''")
    page.type("fox")
    assert ["fox" in line for line in found(page)] == [True] * 8
    assert page.run("document.querySelector('#found-count').textContent") == "18 concepts found"
    page.press("ArrowDown")
    page.press("ArrowDown")
    page.press("ArrowUp")
    best = max((part for layer in explanation.layers for part in layer.ranked), key=lambda part: abs(part.share))
    assert focused(page).startswith(f"{best.layer} · {best.concept}")
    page.press("Enter")
    assert pinned(page) == [best.concept]
    page.click("#search")
    page.run("document.querySelector('#search').value = ''")
    page.type("nothing")
    assert found(page) == []
    assert page.run("document.querySelector('#found-count').textContent") == "0 concepts found"


def test_results_open_by_click_and_close_by_escape(page, explanation):
    concept = explanation.layers[0].ranked[1].concept
    page.click("#search")
    page.type(f"{concept}")
    page.press("Escape")
    assert found(page) == []
    page.type(f"{concept}")
    page.click("#found li button")
    assert pinned(page) == [concept]


def test_an_address_opens_the_page_at_a_concept(browser, file, explanation):
    part = explanation.layers[1].ranked[2]
    for fragment in (f"layer4/{part.concept}", f"layer-1-concept-{part.concept}"):
        browser.open(file, fragment)
        assert (open_panels(browser), pinned(browser)) == ([1], [part.concept])
        assert focused(browser) == f"Concept {part.concept}"
    other = explanation.beside[1].layers[0].ranked[0]
    browser.open(file, f"layer3/{other.concept}@2")
    assert browser.run(f"document.querySelector('{VIEW}').id") == "view-2"
    assert pinned(browser) == [other.concept]
    for fragment in ("layer3/64", "nowhere/1", "%", "layer3/1@9"):
        browser.open(file, fragment)
        assert browser.complaints == []
    browser.open(file)
    browser.run(f"location.hash = 'layer4/{part.concept}'")
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert pinned(browser) == [part.concept]
