"""A reader names concepts on pages of a site and on a page of its own; the names reach the library and come back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import crp
from crp.library import Library, read_names, write_names
from crp.visualization.atlases import Atlas
from tests.visualization.site import small_site
from tests.visualization.site.small_site import HOSTILE, OPTIONS

LAYER = "low/er"
VIEW = ".view:not([hidden])"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Library]:
    """A library with one name, its site and a page on its own."""
    folder = tmp_path_factory.mktemp("named")
    model = small_site.network()
    library = small_site.mined(folder, model)
    library.give_name(f"{LAYER}/2", "dark edge", note="by hand", verdict="unsure", author="Ann")
    pictures = small_site.pictures(folder / "photos")
    ready = crp.prepared(model)
    explanation = crp.explain(ready, pictures[0], library, concepts=8, cells=3)
    Atlas(explanation).save(folder / "atlas.html")
    crp.make_site(ready, pictures, library, folder / "site", **OPTIONS)
    (folder / "empty.html").write_text("<!doctype html><title>Empty</title>")
    return folder, library


@pytest.fixture
def page(browser, made):
    """The page on its own, in a browser that has forgotten everything."""
    browser.open(made[0] / "empty.html")  # what the browser remembers is the same for all files
    browser.run("localStorage.clear()")
    browser.open(made[0] / "atlas.html")
    yield browser
    assert browser.complaints == []


def card_of(page, layer: str, number: int = 0) -> str:
    """Address of a concept with a card, such as "conv/3"."""
    return page.run(
        f"[...document.querySelectorAll('.panel[data-layer-name={json.dumps(layer)}] .card [data-of]')]"
        f".map(e => e.dataset.of).filter((e, i, every) => every.indexOf(e) === i)[{number}]"
    )


def fill(page, of: str, **fields: str) -> None:
    """Open the editor of a concept by keyboard, fill it in, and save."""
    page.run(f"location.hash = '#' + {json.dumps(of)}")  # its layer, and its card out of the fold
    page.run(f"document.querySelector('[data-edit={json.dumps(of)}]').focus()")
    page.press("Enter")
    assert page.run("document.querySelector('dialog.naming').open")
    names = ["label", "note", "tags", "verdict", "author"]
    for name, value in fields.items():
        field = "document.querySelectorAll('.naming input, .naming textarea, .naming select')"
        page.run(f"{field}[{names.index(name)}].value = {json.dumps(value)}")
    page.run("document.querySelectorAll('.naming input')[0].focus()")
    page.press("Enter")
    assert not page.run("document.querySelector('dialog.naming').open")


def settled(page, condition: str) -> None:
    """Wait until something is true of the page."""
    assert page.run(
        f"(async () => {{ const holds = () => !!({condition}); for (let turn = 0; turn < 250 && !holds(); turn++)"
        " await new Promise(done => setTimeout(done, 20)); return holds(); })()"
    )


def exported(page) -> str:
    """The file that the page hands out."""
    page.run(
        "window.handed = null; URL.createObjectURL = blob => { blob.text().then(text => { window.handed = text; });"
        " return 'data:,'; }; HTMLAnchorElement.prototype.click = () => {};"
    )
    page.click(".mine button")
    settled(page, "window.handed !== null")
    return page.run("window.handed")


def stored(page) -> dict:
    """What the browser keeps of one layer, by concept."""
    key = "Object.keys(localStorage).find(key => key.startsWith('crp-atlas names'))"
    return json.loads(page.run(f"localStorage.getItem({key})"))


def texts(page, selector: str) -> list[str]:
    return page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent.trim())")


def test_a_name_is_shown_at_once_wherever_the_page_tells_the_concept(page, made) -> None:
    of = card_of(page, "upper")
    concept = int(of.rpartition("/")[2])
    fill(page, of, label=f"  {HOSTILE}\n", note="line one\nline two", tags="a, b,, a", verdict="artefact", author="Bo")
    name = HOSTILE
    card = f".card[data-concept='{concept}'][data-layer='0']"
    assert texts(page, f"{card} .pick bdi") == [name]
    assert texts(page, f"{card} .pick .id") == [str(concept)]
    assert texts(page, f"{card} .said") == ["artefact a b line one\nline two Bo"]
    assert page.run(f"document.querySelector(\"{card} .pick\").title") == f"concept {concept} of upper: {name}"
    assert page.run(f"document.querySelector(\"{card}\").ariaLabel") == name
    alt = page.run(f"document.querySelector(\"{card} .where\").getAttribute('aria-label')")
    told = name if str(concept) in name else f"{name} ({concept})"
    assert alt.startswith(f"Where {told} ")
    assert f"{told}: " in page.run(f"document.querySelector('.sum [data-concept=\"{concept}\"]').title")
    legend = f".legend[data-layer='0'] [data-concept='{concept}']"
    count = page.run(f'document.querySelectorAll("{legend}").length')
    assert count
    assert texts(page, f"{legend} bdi") == [name] * count
    node = f".node[data-layer-name='upper'][data-concept='{concept}']"
    (shown,) = texts(page, f"{node} b")
    assert shown.endswith(f"({concept})")
    assert shown.startswith("<img src")
    assert page.run(f"document.querySelector(\"{node}\").dataset.text").startswith(f"upper {told}: ")
    assert any(caption.startswith(f"upper {told} ") for caption in texts(page, ".account caption"))
    edges = texts(page, f".edge[data-upper='upper/{concept}'] title")
    assert edges
    assert all(title.startswith(f"upper {told} → low/er ") for title in edges)
    # what the script writes
    page.run("document.getElementById('search').focus()")
    page.type("onerror")
    assert texts(page, "#found bdi")[1] == name
    page.press("Enter")
    assert texts(page, f"{VIEW} .now")[0].startswith(f"{told} of upper ")
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0
    assert stored(page)[str(concept)]["note"] == "line one\nline two"
    # the concept of the same number in the other layer keeps its own
    other = texts(page, f".card[data-concept='{concept}'][data-layer='1'] .pick bdi")
    assert other == ([] if concept > 5 else ["dark edge"] if concept == 2 else [f"Concept {concept}"])


def test_what_the_library_says_is_edited_forgotten_and_comes_back(page) -> None:
    of = f"{LAYER}/2"
    told = (
        "[document.querySelector('.layers').textContent.replace(/\\s+/g, ' '),"
        " document.querySelector('.net').textContent,"
        " ...[...document.querySelectorAll('.node, .panel [title], .panel [alt]')]"
        ".map(e => [e.dataset.text, e.title, e.alt])]"
    )
    before = page.run(told)
    fill(page, of, label="", note="", verdict="")
    card = f".card [data-of={json.dumps(of)}]"
    assert texts(page, f"{card}[data-name=title]") == ["Concept 2"]
    assert texts(page, f"[data-said={json.dumps(of)}]") == [""]  # the editor's other fields were emptied, too
    assert page.run("document.querySelector('.mine').hidden") is False
    assert page.run(told) != before
    page.run(f"document.querySelector('[data-edit={json.dumps(of)}]').click()")
    page.click(".naming .discard")
    assert page.run(told) == before
    assert page.run("document.querySelector('.mine').hidden") is True


def test_escape_closes_the_editor_and_nothing_else(page) -> None:
    of = card_of(page, "upper")
    concept = of.rpartition("/")[2]
    page.run(f"document.querySelector('.card[data-concept=\"{concept}\"] .pick').click()")
    page.run(f"document.querySelector('[data-edit={json.dumps(of)}]').focus()")
    page.press("Enter")
    page.type("half")
    page.press("Escape")
    assert not page.run("document.querySelector('dialog.naming').open")
    assert page.run("document.querySelectorAll('.pick[aria-pressed=true]').length") == 1
    assert texts(page, f".card [data-of={json.dumps(of)}][data-name=title]") == [f"Concept {concept}"]
    assert page.run("document.activeElement.dataset.edit") == of  # the focus is where it was


def test_names_go_from_the_page_to_the_library_and_back(page, made, tmp_path: Path) -> None:
    folder, library = made
    of = card_of(page, "upper", 1)
    fill(page, of, label="the wave", tags="x", author="Bo")
    page.open(folder / "atlas.html")
    assert texts(page, f".card [data-of={json.dumps(of)}][data-name=title]") == ["the wave"]
    assert texts(page, ".mine span") == ["1 concept named in this browser only."]
    (tmp_path / "names.json").write_text(exported(page))
    result = library.merge_names(read_names(tmp_path / "names.json").values())
    assert (result.changes, result.conflicts, result.refused) == (1, (), {})
    name = library.given_names()["upper", int(of.rpartition("/")[2])]
    assert (name.label, name.tags, name.author) == ("the wave", ("x",), "Bo")
    assert name.fingerprint == library.identity("upper").of(name.concept)
    again = crp.explain(small_site.network(), folder / "photos" / "picture 0.png", library, concepts=2, cells=3)
    file = Atlas(again).save(tmp_path / "again.html")
    page.open(file, scripts=False)
    assert texts(page, f".card [data-of={json.dumps(of)}][data-name=title]") == ["the wave"]
    page.open(file)
    # the library knows it now: nothing is left to export
    assert page.run("document.querySelector('.mine').hidden") is True
    page.open(folder / "atlas.html")
    page.run("localStorage.clear()")


def test_another_model_of_the_same_layers_gets_no_names_of_this_one(page, made, tmp_path: Path) -> None:
    of = card_of(page, "upper")
    fill(page, of, label="mine")
    other = small_site.network(seed=5)
    strange = small_site.mined(tmp_path, other)
    explained = crp.explain(other, made[0] / "photos" / "picture 0.png", strange, concepts=2, cells=3)
    page.open(Atlas(explained).save(tmp_path / "other.html"))
    assert page.run("Object.keys(localStorage).length") == 2  # it is in the browser, and not shown
    assert page.run("document.querySelector('.mine').hidden") is True
    assert "mine" not in texts(page, "[data-name=title]")


def test_what_other_pages_left_in_the_browser_is_not_trusted(page, made) -> None:
    identity = made[1].identity("upper").identity
    concept = card_of(page, "upper").rpartition("/")[2]
    for damage in ("{", "null", "[]", json.dumps({concept: {"label": 7}}), json.dumps({concept: None, "x": {}})):
        page.run(f"localStorage.setItem('crp-atlas names {identity}', {json.dumps(damage)})")
        page.open(made[0] / "atlas.html")
        assert texts(page, f".card [data-of='upper/{concept}'][data-name=title]") == [f"Concept {concept}"]
        assert page.complaints == []


def test_a_site_shows_a_name_on_all_its_pages(page, made, tmp_path: Path) -> None:
    folder = made[0] / "site"
    place = f"concepts/{next((folder / 'concepts').glob('low*')).name}"
    page.open(folder / place / "2.html")
    assert texts(page, "h1") == ["dark edge 2"]
    assert texts(page, ".said") == ["unsure by hand Ann"]
    page.open(folder / place / "1.html")
    fill(page, f"{LAYER}/1", label="red & green", author="Cy")
    assert texts(page, "h1") == ["red & green 1"]
    page.open(folder / place / "index.html")
    assert texts(page, ".concepts-of [data-name=name]") == ["", "red & green", "dark edge", "", "", ""]
    assert page.run("document.querySelectorAll('.concepts-of a')[1].title") == f"concept 1 of {LAYER}: red & green"
    assert {concept: said["label"] for concept, said in stored(page).items()} == {"1": "red & green"}
    prediction = next((folder / "predictions").glob("*.html"))
    page.open(prediction)
    shown = texts(page, f"[data-of={json.dumps(f'{LAYER}/1')}][data-name=label]")
    assert set(shown) <= {"red & gr… (1)", "red & green (1)"}
    assert page.run("window.conceptNames.name('low/er', 1)") == "red & green"
    # the index finds predictions by the name, and tells the concept by it
    page.open(folder / "index.html", "concept=red+%26+green&least=0")
    page.run("new Promise(done => setTimeout(done, 200))")
    count = page.run("document.getElementById('count').textContent")
    assert f", in which red & green (1) holds at least 0\N{NO-BREAK SPACE}% of {LAYER}" in count
    assert set(texts(page, ".found bdi")) == {"red & green (1)"}
    # a file of names is opened there, too
    file = tmp_path / "names.json"
    file.write_text(exported(page))
    page.run("localStorage.clear()")
    page.open(folder / "index.html", "concept=red+%26+green&least=0")
    settled(page, "document.getElementById('count').textContent.startsWith('No concept is called')")
    assert ", or a name somebody gave. " in page.run("document.getElementById('count').textContent")
    page.run(
        "document.querySelector('.naming [type=file]').onclick = event => { event.preventDefault(); window.asked = 1; }"
    )
    page.click("[data-open-names]")
    assert page.run("window.asked") == 1
    (tmp_path / "photo.json").write_text("{}")
    given(page, tmp_path / "photo.json")
    settled(page, "document.querySelector('.mine').textContent.includes('photo.json is not a file of names. ')")
    given(page, file)
    settled(page, "document.getElementById('count').textContent.includes('in which red & green (1) holds')")
    assert texts(page, ".mine span") == ["1 name taken over. 1 concept named in this browser only."]
    page.run("localStorage.clear()")


def test_paper_has_no_buttons_of_names(page) -> None:
    fill(page, card_of(page, "upper"), label="mine")
    page.media(kind="print")
    shown = page.run(
        "[...document.querySelectorAll('.name-it, .mine, .naming')].filter(e => e.getClientRects().length).length"
    )
    assert shown == 0
    page.run("localStorage.clear()")


def given(page, file: Path) -> None:
    document = page.send("DOM.getDocument")["root"]["nodeId"]
    found = page.send("DOM.querySelector", nodeId=document, selector=".naming [type=file]")["nodeId"]
    page.send("DOM.setFileInputFiles", files=[str(file)], nodeId=found)


def handed_over(page, of: str, file: Path) -> None:
    """Open a file of names in the editor of a concept; a test cannot use the window of the system."""
    page.run(f"document.querySelector('[data-edit={json.dumps(of)}]').click()")
    given(page, file)
    settled(page, "!document.querySelector('.naming').open || document.querySelector('.naming .failed').textContent")


def test_a_colleague_opens_what_was_exported(page, made, tmp_path: Path) -> None:
    folder, _ = made
    first, second = card_of(page, "upper", 1), f"{LAYER}/2"
    fill(page, first, label="the wave", note=HOSTILE, verdict="fine", author="Bo")
    fill(page, second, label="brighter edge", author="Bo")
    text = exported(page)
    file = tmp_path / "from Bo.json"
    file.write_text(text)
    # another browser, which has said something else of one of them since
    page.open(folder / "atlas.html")
    page.run("localStorage.clear()")
    page.open(folder / "atlas.html")
    handed_over(page, first, file)
    assert not page.run("document.querySelector('dialog.naming').open")
    assert texts(page, ".mine span") == ["2 names taken over. 2 concepts named in this browser only."]
    assert texts(page, f".card [data-of={json.dumps(first)}][data-name=title]") == ["the wave"]
    assert texts(page, f".card [data-said={json.dumps(first)}]") == [f"fine {HOSTILE} Bo"]
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0
    handed_over(page, first, file)
    assert texts(page, ".mine span") == [
        "0 names taken over, 2 not newer than what is here. 2 concepts named in this browser only."
    ]
    # what is handed on is what was handed over, with its author and date
    assert json.loads(exported(page)) == json.loads(text)
    page.open(folder / "atlas.html")
    assert texts(page, f".card [data-of={json.dumps(second)}][data-name=title]") == ["brighter edge"]
    # what the reader says later counts
    fill(page, first, label="mine")
    handed_over(page, first, file)
    assert texts(page, f".card [data-of={json.dumps(first)}][data-name=title]") == ["mine"]


DAMAGED = [
    {"fingerprint": {"identity": "of another model", "kind": "Channels"}},
    {"layer": "none"},
    {"concept": "1"},
    {"label": "x" * 121},
    {"verdict": "perhaps"},
    {"date": "9999"},
    {"tags": "a"},
    {"fingerprint": None},
]


def test_names_of_other_concepts_and_damaged_ones_are_not_taken_over(page, made, tmp_path: Path) -> None:
    of = card_of(page, "upper")
    concept = int(of.rpartition("/")[2])
    identity = made[1].identity("upper")
    name = {
        "layer": "upper", "concept": concept, "label": "good", "note": "", "tags": [], "verdict": "", "author": "",
        "date": "2030-01-01T00:00:00Z", "fingerprint": {"identity": identity.identity, "kind": identity.kind},
    }  # fmt: skip
    file = tmp_path / "names.json"
    for changes in DAMAGED:
        page.run("document.querySelector('.mine span').textContent = ''")
        file.write_text(json.dumps({"format": "crp-atlas names", "version": 1, "names": [name | changes]}))
        handed_over(page, of, file)
        assert page.run("localStorage.length") == 0, changes
        assert texts(page, ".mine span") == [
            "0 names taken over, 1 for other concepts or models. 0 concepts named in this browser only."
        ], changes
    file.write_text(json.dumps({"format": "crp-atlas names", "version": 1, "names": [name]}))
    handed_over(page, of, file)
    assert texts(page, f".card [data-of={json.dumps(of)}][data-name=title]") == ["good"]


def test_other_files_are_said_to_be_none(page, tmp_path: Path) -> None:
    of = card_of(page, "upper")
    versions = '{"format": "crp-atlas names", "version": 2, "names": []}'
    for number, text in enumerate(("", "{}", versions, "null")):
        file = tmp_path / f"photo-{number}.json"
        file.write_text(text)
        page.run("document.querySelector('.naming .failed').textContent = ''")
        handed_over(page, of, file)
        assert texts(page, ".naming .failed") == [f"photo-{number}.json is not a file of names."]
        assert page.run("document.querySelector('dialog.naming').open")


def test_names_that_the_library_exports_are_opened(page, tmp_path: Path) -> None:
    of = card_of(page, "upper")
    concept = int(of.rpartition("/")[2])
    other = small_site.mined(tmp_path, small_site.network())
    other.give_name(of, "from the library", author="Cy")
    write_names(tmp_path / "shared.json", other.given_names().values())
    handed_over(page, of, tmp_path / "shared.json")
    assert texts(page, f".card [data-of={json.dumps(of)}][data-name=title]") == ["from the library"]
    assert stored(page)[str(concept)]["author"] == "Cy"
