"""A site in a real browser, opened from a disk: every control by mouse and by keyboard, no request to outside."""

import contextlib
import json
import time

import pytest
from PIL import Image

import crp
from crp.library.patches import MODES
from crp.visualization import wording
from crp.visualization.picture_formats import PATCHES_SUFFIX, SUFFIX
from crp.visualization.site.site_maker import make_site
from page_in_browser import STATES, faults, printed_patches
from tests.visualization.site import small_site as small

LAYER = "upper"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return small.pictures(tmp_path_factory.mktemp("photos"), 6)


@pytest.fixture(scope="module")
def explanations(model, library, files):
    return [crp.explain(model, file, library, concepts=2, cells=3) for file in files]


@pytest.fixture(scope="module")
def folder(model, library, files, tmp_path_factory):
    place = tmp_path_factory.mktemp("made") / "site"
    make_site(model, files, library, place, concepts=2, cells=3, progress=False, command="crp atlas a b --out site")
    return place


@pytest.fixture
def page(browser, folder):
    """The browser, and afterwards: no complaint, no request to anywhere outside the site's folder."""
    yield browser
    assert browser.complaints == []
    asked = [address for address in browser.requests if not address.startswith("data:")]
    assert asked
    assert [address for address in asked if not address.startswith(folder.resolve().as_uri() + "/")] == []


PAGES = {
    "index": "index.html",
    "layer": f"concepts/{LAYER}/index.html",
    "concept": f"concepts/{LAYER}/3.html",
    "prediction": "predictions/picture_0.html",
}


def visible(page, selector="[data-unit] > li"):
    """Places of the items that are shown."""
    return page.run(f"[...document.querySelectorAll({json.dumps(selector)})].flatMap((e, i) => e.hidden ? [] : [i])")


def text(page, selector):
    return page.run(f"document.querySelector({json.dumps(selector)}).textContent")


def address(page):
    return page.run("location.href.split('/site/')[1]")


def wait_for(page, ending):
    """Wait until the browser is at another page of the site, and that is loaded."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        # between two pages there is none to ask
        with contextlib.suppress(RuntimeError):
            # the address first: the state asked before may be that of the page that is left
            if address(page).split("#")[0] == ending and page.run("document.readyState") == "complete":
                return
        time.sleep(0.02)
    pytest.fail(f"at {address(page)}, not at {ending}")


# -- the index


def test_every_picture_of_every_page_is_drawn(page, folder):
    for name in PAGES.values():
        page.open(folder / name)
        broken = (
            "Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode().catch(() => {}); }))"
            ".then(() => [...document.images].filter(i => i.hasAttribute('src') && !i.naturalWidth).map(i => i.src))"
        )
        assert page.run(broken) == []
        assert page.run("document.images.length") > 0 or name == PAGES["layer"]
        # backgrounds, too: what a style refers to has been asked for
        assert any(wanted.endswith(f"glimpses{SUFFIX}") for wanted in page.requests), name


def settled(page):
    """Wait until the index has drawn what was asked for last; then name the places of pages in its order."""
    page.run("new Promise(done => setTimeout(done, 50))")
    page.run("window.index_of = page => window.siteIndex.predictions.findIndex(row => row[0] === page); 1")


def listed(page):
    """Places of the predictions that the index lists, once it has drawn what was asked for."""
    settled(page)
    return page.run("[...document.querySelectorAll('.gallery .prediction')].map(e => index_of(e.dataset.page))")


def test_searching_the_index_by_class_file_and_concept(page, folder, explanations, files):
    page.open(folder / "index.html")
    settled(page)
    assert listed(page) == list(range(6))
    assert text(page, "#count") == "6 of 6 predictions"
    names = [value.target.name for value in explanations]
    wanted = names[0]
    page.click("#filter")
    page.type(wanted[:6])
    assert listed(page) == [i for i, name in enumerate(names) if wanted[:6].lower() in name.lower()]
    page.press("Escape")
    assert listed(page) == list(range(6))
    page.type("picture 2")
    assert listed(page) == [2]
    assert text(page, "#count") == "1 of 6 predictions"
    page.press("Escape")
    part = explanations[3].layers[0].ranked[0]
    page.type(f"{LAYER}/{part.concept}")
    shown = [
        i for i, value in enumerate(explanations) if part.concept in {p.concept for p in value.layers[0].ranked}
    ]
    assert listed(page) == shown
    assert 3 in shown
    page.press("Escape")
    page.type("nothing at all")
    assert listed(page) == []
    assert text(page, ".nothing") == "No prediction matches. Show all"
    page.click(".nothing button")
    assert listed(page) == list(range(6))
    assert page.run("document.activeElement.id") == "filter"


def test_filtering_the_index_by_class(page, folder, explanations):
    page.open(folder / "index.html")
    settled(page)
    names = [value.target.name for value in explanations]
    assert len(set(names)) > 1
    options = page.run("[...document.querySelectorAll('#only option')].map(e => e.textContent)")
    expected = sorted(set(names), key=str.lower)
    assert options == ["all classes", *(f"{name} ({names.count(name)})" for name in expected)]
    page.run("document.querySelector('#only').focus()")
    page.press("ArrowDown")
    assert listed(page) == [i for i, name in enumerate(names) if name == expected[0]]
    assert not page.run("document.querySelector('#all').disabled")
    page.click("#all")
    assert listed(page) == list(range(6))
    assert page.run("document.querySelector('#all').disabled")


def test_enter_opens_the_first_hit(page, folder):
    page.open(folder / "index.html")
    page.click("#filter")
    page.press("Enter")  # nothing was asked for yet
    page.type("picture 3")
    page.press("Enter")
    wait_for(page, "predictions/picture_3.html")


# -- from page to page


def test_by_mouse_from_the_index_to_a_concept_and_back(page, folder, explanations):
    page.open(folder / "index.html")
    page.click(".prediction .face")
    wait_for(page, "predictions/picture_0.html")
    part = explanations[0].layers[0].ranked[0]
    page.click(f"#layer-0-concept-{part.concept} .to-page a")
    wait_for(page, f"concepts/{LAYER}/{part.concept}.html")
    assert text(page, "h1") == f"Concept {part.concept}"
    page.click('.seen-in a[href*="picture_0"]')
    wait_for(page, "predictions/picture_0.html")
    assert address(page).endswith(f"#{LAYER}/{part.concept}")
    pressed = "[...document.querySelectorAll('.pick[aria-pressed=true]')].map(e => e.textContent)"
    assert page.run(pressed) == [f"Concept {part.concept}"]


def test_by_keyboard_from_the_index_to_a_concept_and_its_neighbours(page, folder, explanations):
    page.open(folder / "index.html")
    concept = explanations[0].layers[0].ranked[0].concept
    page.run("document.querySelector('.top-concepts a').focus()")
    page.press("Enter")
    wait_for(page, f"concepts/{LAYER}/{concept}.html")
    turn = "next" if concept < 7 else "prev"
    page.run(f"document.querySelector('[rel={turn}]').focus()")
    page.press("Enter")
    other = concept + (1 if turn == "next" else -1)
    wait_for(page, f"concepts/{LAYER}/{other}.html")
    page.run("document.querySelector('.crumbs a').focus()")
    page.press("Enter")
    wait_for(page, "index.html")


def test_a_concept_without_a_card_leads_to_its_page(page, folder, explanations):
    layer = explanations[0].layers[0]
    without = next(i for i in range(layer.size) if i not in {part.concept for part in layer.ranked})
    page.open(folder / PAGES["prediction"], f"{LAYER}/{without}")
    page.click(".view .now .to-card")
    wait_for(page, f"concepts/{LAYER}/{without}.html")


def test_a_node_of_the_graph_leads_to_its_page(page, folder, explanations):
    node = next(node for node in explanations[0].graph.nodes if node.layer == small.LAYERS[0])
    page.open(folder / PAGES["prediction"])
    page.click(f'.node[data-layer-name="{node.layer}"][data-concept="{node.concept}"]')
    page.click(".graph .about .to-card:last-child")
    wait_for(page, f"concepts/low_er/{node.concept}.html")


def test_from_one_prediction_to_the_next_and_back(page, folder, files):
    page.open(folder / PAGES["prediction"])
    assert page.run("document.querySelectorAll('.turn a').length") == 1
    assert text(page, "[rel=next]") == f"{files[1].name} →"
    hostile = page.run("window.predictions[1][0]")
    page.click("[rel=next]")
    wait_for(page, f"predictions/{hostile}.html")
    assert text(page, "[rel=prev]") == f"← {files[0].name}"
    page.run("document.querySelector('[rel=prev]').focus()")
    page.press("Enter")
    wait_for(page, PAGES["prediction"])


# -- concepts


def test_searching_the_concepts_of_a_layer(page, folder, library, explanations):
    page.open(folder / PAGES["layer"])
    assert text(page, "#count") == "8 of 8 concepts"
    page.click("#filter")
    page.type("3")
    assert visible(page) == [3]
    page.press("Enter")
    wait_for(page, PAGES["concept"])
    page.open(folder / PAGES["layer"])
    page.click("#filter")
    page.type("cat")
    users = [{use.name for use in library.concept(LAYER, concept).users[:3]} for concept in range(8)]
    assert visible(page) == [concept for concept in range(8) if "cat" in users[concept]]
    page.press("Escape")
    page.run("document.querySelector('#only').focus()")
    page.press("ArrowDown")
    shown = {part.concept for value in explanations for part in value.layers[0].ranked}
    assert visible(page) == sorted(shown)
    page.click("#all")
    assert len(visible(page)) == 8


def test_a_concept_shows_its_patches_and_what_of_them_counts(page, folder, library):
    page.open(folder / PAGES["concept"])
    for mode in MODES:
        stored = library.patches(LAYER, 3, mode)
        titles = page.run(f"[...document.querySelectorAll('[data-kind={mode}] b')].map(e => e.title)")
        assert [title.split(": ")[1] for title in titles] == [wording.patch(patch) for patch in stored]
    opacity = "Number(getComputedStyle(document.querySelector('.patches b'), '::after').opacity)"
    assert page.run(opacity) > 0.5
    page.hover(".patches b")
    page.run("new Promise(done => setTimeout(done, 300))")
    assert page.run(opacity) == 0


# -- what every page promises


@pytest.mark.parametrize(("narrow", "rules"), STATES)
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_fault(page, folder, name, narrow, rules):
    page.open(folder / PAGES[name], width=400 if narrow else 1300)
    page.media(dark=narrow)
    assert faults(page, rules) == []


@pytest.mark.parametrize("name", ["index", "layer", "concept"])
def test_everything_is_reached_by_tab(page, folder, name):
    page.open(folder / PAGES[name])
    page.run("document.body.focus()")
    reached = 0
    for _ in range(200):
        page.press("Tab")
        if page.run("document.activeElement === document.body"):
            break
        reached += 1
    else:
        pytest.fail("the focus never comes out of the page")
    controls = "a[href], button:not(:disabled), input, select, summary, [tabindex='0']"
    shown = f"[...document.querySelectorAll(\"{controls}\")].filter(e => e.getClientRects().length).length"
    assert reached == page.run(shown)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_window(page, folder, name):
    page.open(folder / PAGES[name], width=320)
    for width in (320, 768, 1300):
        page.resize(width, 900)
        assert page.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", PAGES)
def test_hostile_names_stay_text(page, folder, name):
    page.open(folder / PAGES[name])
    assert page.run("document.querySelectorAll('img[src=x], [onerror]').length") == 0
    scripts = {"prediction": 7, "index": 5, "concept": 4, "layer": 3}
    assert page.run("document.scripts.length") == scripts[name]
    if name in ("index", "concept"):
        assert "<img src=x onerror=alert(1)>" in page.run("document.body.textContent")


def test_the_page_of_a_hostile_file(page, folder, files):
    page.open(folder / "index.html")
    href = page.run("document.querySelectorAll('.face')[1].getAttribute('href')")
    page.open(folder / href)
    assert files[1].name in text(page, ".eyebrow")


@pytest.mark.parametrize("name", ["index", "layer", "concept"])
def test_without_scripts_everything_is_there_but_the_filters(page, folder, library, name):
    page.open(folder / PAGES[name], scripts=False)
    count = "[...document.querySelectorAll('{}')].filter(e => e.getBoundingClientRect().height > 0).length"
    assert page.run(count.format(".filters")) == 0
    patches = sum(len(library.patches(LAYER, 3, mode)) for mode in MODES)
    wanted = {"index": (".prediction", 6), "layer": ("[data-unit] > li", 8), "concept": (".patches b", patches)}[name]
    assert page.run(count.format(wanted[0])) == wanted[1]


@pytest.mark.parametrize("name", ["index", "layer", "concept"])
def test_print_leaves_out_the_controls(page, folder, name):
    page.open(folder / PAGES[name])
    page.media(kind="print")
    shown = "[...document.querySelectorAll('.filters, .crumbs')].filter(e => e.getClientRects().length).length"
    assert page.run(shown) == 0


def test_light_and_dark(page, folder):
    page.open(folder / "index.html")
    colours = []
    for dark in (False, True):
        page.media(dark=dark)
        colours.append(page.run("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(251, 251, 249)", "rgb(19, 20, 23)"]


def test_print_draws_every_patch_of_a_concept(page, folder, library, tmp_path):
    page.open(folder / PAGES["concept"])
    with Image.open(folder / "concepts" / LAYER / f"3{PATCHES_SUFFIX}") as sheet:
        expected, _, printed = printed_patches(page, tmp_path / "page.pdf", [sheet.size])
    assert printed == expected == sum(len(library.patches(LAYER, 3, mode)) for mode in MODES) > 3
