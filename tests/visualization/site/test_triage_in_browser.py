"""Triage on a site of 300 predictions in a real browser: every filter and order against the same in Python."""

import contextlib
import json
import time
from urllib.parse import quote

import pytest

from crp.visualization import triage_wording, wording
from page_in_browser import STATES, faults
from tests.visualization.site import many_predictions as many

PAGE = 48
ORDER = "document.querySelector('[data-field=sort]').selectedOptions[0].textContent"


@pytest.fixture(scope="session")
def entries():
    return many.entries()


@pytest.fixture(scope="session")
def folder(made, library, entries, tmp_path_factory):
    return many.write(made, library, tmp_path_factory.mktemp("many") / "site", entries)


@pytest.fixture
def page(browser, folder):
    yield browser
    assert browser.complaints == []
    asked = [address for address in browser.requests if not address.startswith("data:")]
    assert [address for address in asked if not address.startswith(folder.resolve().as_uri() + "/")] == []


def settled(page, condition, seconds=20):
    """Wait until a JavaScript expression is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(RuntimeError):  # between two pages there is none to ask
            if page.run(f"Boolean({condition})"):
                return
        time.sleep(0.02)
    pytest.fail(f"not true: {condition}; {page.run('location.href')}")


def shown(page):
    """Page names of the predictions on the current page."""
    return page.run("[...document.querySelectorAll('.gallery .prediction')].map(e => e.dataset.page)")


def count(page):
    return page.run("document.getElementById('count').textContent")


def open_index(browser, folder, **asked):
    browser.open(folder / "index.html", "&".join(f"{key}={quote(str(value), safe='')}" for key, value in asked.items()))
    settled(browser, "document.getElementById('count').textContent")


def expect(page, wanted):
    """The first page shows these predictions, in this order, and the count is theirs."""
    settled(page, f"document.getElementById('count').textContent.startsWith('{len(wanted)} of {many.COUNT} ')")
    assert shown(page) == [entry.page for entry in wanted[:PAGE]]


def choose(page, field, value):
    """Choose from a list, as a reader does by mouse or keyboard."""
    field = f"document.querySelector('[data-field={field}]')"
    page.run(f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('change', {{bubbles: true}}))")


def share(entry, layer, concept):
    return dict(entry.uses[layer]).get(concept, 0.0)


def test_all_predictions_are_there_page_by_page(page, folder, entries):
    open_index(page, folder)
    expect(page, entries)
    seen = shown(page)
    for number in range(2, 8):
        page.click(".turning .after")
        settled(page, f"document.querySelector('.turning .place').textContent === 'Page {number} of 7'")
        assert page.run("location.hash") == f"#page={number}"
        seen += shown(page)
    assert seen == [entry.page for entry in entries]
    assert page.run("document.querySelector('.turning .after').disabled")
    page.click(".turning .before")
    settled(page, "document.querySelector('.turning .place').textContent === 'Page 6 of 7'")


@pytest.mark.parametrize("which", ["right", "wrong", "uncertain"])
def test_right_wrong_and_uncertain(page, folder, entries, which):
    tests = {
        "right": lambda entry: triage_wording.is_right(entry) is True,
        "wrong": lambda entry: triage_wording.is_right(entry) is False,
        "uncertain": lambda entry: round(entry.classes[0].probability, 4) < 0.5,
    }
    open_index(page, folder)
    choose(page, "show", which)
    wanted = [entry for entry in entries if tests[which](entry)]
    assert 0 < len(wanted) < many.COUNT
    expect(page, wanted)
    assert page.run("location.hash") == f"#show={which}"
    limit = "getComputedStyle(document.querySelector('.limit')).display !== 'none'"
    assert page.run(limit) == (which == "uncertain")
    if which == "uncertain":
        page.run("document.querySelector('[data-field=under]').select()")
        page.click("[data-field=under]")
        page.run("document.querySelector('[data-field=under]').select()")
        page.type("40")
        expect(page, [entry for entry in entries if round(entry.classes[0].probability, 4) < 0.4])


def test_labels_stand_beside_predictions(page, folder, entries):
    open_index(page, folder)
    truths = page.run(
        "[...document.querySelectorAll('.gallery .prediction')].map(e => e.querySelector('.truth')?.textContent ?? '')"
    )
    for entry, said in zip(entries, truths, strict=False):
        marked = triage_wording.label(entry)
        assert said == (f"{'✓' if triage_wording.is_right(entry) else '✗'} {marked}" if marked else "")
    known = [triage_wording.is_right(entry) for entry in entries if entry.label is not None]
    right = sum(known)
    assert page.run("document.querySelector('.eyebrow').textContent") == (
        f"300 predictions, 3 classes: {right} right, {len(known) - right} wrong, {300 - len(known)} without a label"
    )


def test_by_label_and_class_together(page, folder, entries):
    open_index(page, folder, **{"class": "ant", "label": "cat"})
    expect(page, [e for e in entries if e.target.name == "ant" and e.label is not None and e.label[1] == "cat"])


@pytest.mark.parametrize("order", ["sure", "unsure", "deviation"])
def test_orders(page, folder, entries, order):
    keys = {
        "sure": lambda entry: -round(entry.classes[0].probability, 4),
        "unsure": lambda entry: round(entry.classes[0].probability, 4),
        "deviation": lambda entry: -round(entry.deviations.get("upper", -1), 4),
    }
    open_index(page, folder)
    choose(page, "sort", order)
    expect(page, sorted(entries, key=keys[order]))
    if order == "deviation":
        found = page.run("document.querySelector('.prediction .found').textContent")
        assert found == f"deviates by {wording.percent(max(e.deviations.get('upper', 0) for e in entries))}"
        assert page.run("document.querySelector('.deviation-means').checkVisibility()")


@pytest.mark.parametrize(("layer", "concept"), [("upper", 3), ("low/er", 0)])
def test_predictions_that_use_a_concept(page, folder, entries, layer, concept):
    """Also those that have no card for it; the largest share comes first."""
    open_index(page, folder)
    page.click("[data-field=concept]")
    page.type(f"{layer}/{concept}")
    wanted = sorted(
        (entry for entry in entries if abs(share(entry, layer, concept)) >= 0.01),
        key=lambda entry: -share(entry, layer, concept),
    )
    assert any(concept not in dict(entry.shares[layer]) for entry in wanted)
    expect(page, wanted)
    printed = page.run("[...document.querySelectorAll('.prediction .found b')].map(e => e.textContent)")
    assert printed == [wording.signed_percent(share(entry, layer, concept)) for entry in wanted[:PAGE]]
    assert page.run(ORDER) == "concept most for first"
    choose(page, "sort", "against")
    settled(page, "location.hash.includes('sort=against')")
    expect(page, sorted(wanted, key=lambda entry: share(entry, layer, concept)))
    assert count(page).endswith(f", in which {layer}/{concept} holds at least 1\N{NO-BREAK SPACE}% of {layer}")
    choose(page, "sort", "given")
    expect(page, [entry for entry in entries if entry in wanted])
    choose(page, "sort", "share")
    settled(page, "!location.hash.includes('sort=')")
    expect(page, wanted)


def test_wrong_predictions_that_used_a_concept(page, folder, entries):
    """The task of the title, as an address that can be sent."""
    open_index(page, folder, show="wrong", concept="upper/3", least=20)
    wanted = [e for e in entries if triage_wording.is_right(e) is False and abs(share(e, "upper", 3)) >= 0.2]
    assert wanted
    expect(page, sorted(wanted, key=lambda entry: -share(entry, "upper", 3)))


def test_a_concept_that_does_not_exist_is_said_to_be_unknown(page, folder):
    open_index(page, folder, concept="upper/99")
    assert count(page).startswith("No concept is called “upper/99”. Type upper/0, for example. ")
    assert page.run("document.querySelector('[data-field=concept]').getAttribute('aria-invalid')") == "true"


def test_back_undoes_a_choice_and_comes_back_from_a_prediction(page, folder, entries):
    open_index(page, folder)
    choose(page, "show", "wrong")
    settled(page, "location.hash === '#show=wrong'")
    choose(page, "sort", "sure")
    settled(page, "location.hash === '#show=wrong&sort=sure'")
    wrong = [entry for entry in entries if triage_wording.is_right(entry) is False]
    sure = sorted(wrong, key=lambda entry: -round(entry.classes[0].probability, 4))
    expect(page, sure)
    page.click(".prediction .face")
    settled(page, f"location.pathname.endsWith('{sure[0].page}.html') && document.readyState === 'complete'")
    page.run("void setTimeout(() => history.back())")  # later, or the answer may be lost with the page
    settled(page, "location.pathname.endsWith('index.html') && document.querySelector('.gallery .prediction')")
    expect(page, sure)
    assert page.run("document.querySelector('[data-field=sort]').value") == "sure"
    page.run("history.back()")
    settled(page, "location.hash === '#show=wrong'")
    expect(page, wrong)
    page.run("history.back()")
    settled(page, "location.hash === ''")
    expect(page, entries)
    page.run("history.forward()")
    settled(page, "location.hash === '#show=wrong'")
    expect(page, wrong)


def test_typing_is_one_step_of_the_history(page, folder, entries):
    open_index(page, folder)
    page.click("#filter")
    page.type("photo 012")
    expect(page, [entries[12]])
    assert page.run("location.hash") == "#q=photo+012"
    page.run("history.back()")
    settled(page, "location.hash === ''")
    expect(page, entries)
    assert page.run("document.getElementById('filter').value") == ""


def test_show_all_clears_everything(page, folder, entries):
    open_index(page, folder, show="wrong", q="photo 002", page=1)
    page.click("#all")
    expect(page, entries)
    assert page.run("location.hash") == ""
    assert page.run("document.getElementById('all').disabled")


def test_hostile_addresses_are_harmless(page, folder, entries):
    open_index(page, folder, q="<img src=x onerror=alert(1)>", show="nonsense", sort="__proto__", page="-3")
    wanted = [e for e in entries if "<img" in e.target.name or (e.label and "<img" in e.label[1])]
    expect(page, wanted)
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0


def test_the_link_is_copied_and_the_list_is_taken_along(page, folder, entries):
    open_index(page, folder, show="wrong")
    page.run(
        "window.taken = []; URL.createObjectURL = blob => { blob.text().then(text => taken.push(text)); return '#'; };"
        "HTMLAnchorElement.prototype.click = function () { taken.push(this.download); };"
        "navigator.clipboard.writeText = async text => { taken.push(text); }; 1"
    )
    page.click("[data-take=link]")
    settled(page, "taken.length === 1")
    assert page.run("taken[0]") == f"{(folder / 'index.html').resolve().as_uri()}#show=wrong"
    page.click("[data-take=csv]")
    settled(page, "taken.length === 3")
    name, text = page.run("taken.slice(1)")
    assert name == "predictions.csv"
    wrong = [entry for entry in entries if triage_wording.is_right(entry) is False]
    lines = text.split("\r\n")
    assert lines[0] == "page,name,explained,value,predicted,probability,label,right,deviation"
    assert len(lines) == len(wrong) + 2  # a heading, and nothing after the last line
    page.click("[data-take=json]")
    settled(page, "taken.length === 5")
    rows = json.loads(page.run("taken[4]"))
    assert [row["name"] for row in rows] == [entry.name for entry in wrong]
    assert [row["probability"] for row in rows] == [round(entry.classes[0].probability, 4) for entry in wrong]
    assert {row["right"] for row in rows} == {False}


def test_two_predictions_side_by_side(page, folder, entries):
    open_index(page, folder)
    boxes = "document.querySelectorAll('.to-compare input')"
    page.click(".prediction:nth-child(1) .to-compare")
    settled(page, "!document.querySelector('.comparing').hidden")
    assert page.run("document.querySelector('.comparing a').hidden")
    page.click(".prediction:nth-child(3) .to-compare")
    settled(page, "!document.querySelector('.comparing a').hidden")
    assert page.run(f"[...{boxes}].filter(e => e.checked).length") == 2
    page.click(".comparing a")
    settled(page, "location.pathname.endsWith('compare.html') && document.querySelector('.difference:not([hidden])')")
    one, _, two = entries[:3]
    rows = page.run(
        "[...document.querySelectorAll('.difference tbody tr')].map(e => [...e.children].map(c => c.innerText))"
    )
    uses = [dict(entry.uses["upper"]) for entry in (one, two)]
    differences = {c: uses[0].get(c, 0.0) - uses[1].get(c, 0.0) for c in {*uses[0], *uses[1]}}
    # what is printed adds up
    printed = {c: tuple(wording.rounded(of.get(c, 0.0)) for of in uses) for c in differences}
    shown = {c: round(one - two, 1) for c, (one, two) in printed.items()}
    assert any(wording.rounded(differences[c]) != shown[c] for c in shown)
    order = sorted(shown, key=lambda c: (-abs(shown[c]), -abs(differences[c])))
    assert [row[3] for row in rows] == [wording.signed_percent(shown[c] / 100) if shown[c] else "0" for c in order]
    head = page.run("document.querySelector('.difference thead').innerText").split()
    assert head == f"Concept {one.name} {two.name} Difference (left − right)".split()
    assert [row[0] for row in rows] == [f"Concept {c}" for c in order]
    assert [row[1] for row in rows] == [wording.signed_percent(uses[0][c]) if c in uses[0] else "0" for c in order]
    assert [row[2] for row in rows] == [wording.signed_percent(uses[1][c]) if c in uses[1] else "0" for c in order]
    assert frames(page, "/") == [f"{one.page}.html", f"{two.page}.html"]
    # another layer, and Back
    choice = "document.querySelector('.layer-choice select')"
    page.run(f"{choice}.value = 'low/er'; {choice}.dispatchEvent(new Event('change'))")
    settled(page, "document.querySelector('.difference tbody tr').dataset.layerName === 'low/er'")
    page.run("history.back()")
    settled(page, "document.querySelector('.difference tbody tr').dataset.layerName === 'upper'")


def frames(page, before):
    return page.run(f"[...document.querySelectorAll('.beside iframe')].map(e => e.src.split('{before}').pop())")


def test_two_concepts_side_by_side(page, folder):
    page.open(folder / "compare.html", "concept=upper%2F3")
    settled(page, "!document.querySelector('.choose').hidden")
    page.click(".choose input")
    page.type("low/er/2")
    page.press("Enter")
    settled(page, "document.querySelectorAll('.beside iframe').length === 2")
    assert frames(page, "/concepts/") == ["upper/3.html", "low_er/2.html"]
    assert page.run("document.querySelector('.difference').hidden")


def said_common(page):
    title, *rows = page.run(
        "[document.querySelector('.common h2').textContent, ...[...document.querySelectorAll('.common li')].map(e => "
        "[e.dataset.layerName, Number(e.dataset.concept), e.className, e.querySelector('.in').textContent])]"
    )
    return title, rows


def test_what_the_listed_predictions_share(page, folder, entries):
    open_index(page, folder)
    title, rows = said_common(page)
    assert title == "What all 300 predictions share"
    assert rows == [[*key, f"in {here}"] for *key, here, _ in many.in_common(entries, entries)]
    explained = "document.querySelector('.common > .what').innerText"
    assert "rare among the others" not in page.run(explained)
    choose(page, "show", "wrong")
    wrong = [entry for entry in entries if triage_wording.is_right(entry) is False]
    expect(page, wrong)
    title, rows = said_common(page)
    assert title == f"What these {len(wrong)} predictions share"
    assert "rare among the others" in page.run(explained)
    expected = many.in_common(entries, wrong)
    assert len(expected) == 8
    assert rows == [[*key, f"in {here}; in {there} of the others"] for *key, here, there in expected]
    # a click narrows the list, and Back brings the list before it
    layer, concept, *_ = expected[0]
    assert page.run(ORDER) == "as given"
    page.click(".common li:first-child a")
    narrowed = [entry for entry in wrong if abs(share(entry, layer, concept)) >= 0.01]
    expect(page, sorted(narrowed, key=lambda entry: -share(entry, layer, concept)))
    assert page.run("document.querySelector('[data-field=concept]').value") == f"{layer}/{concept}"
    assert page.run(ORDER) == "concept most for first"
    page.run("history.back()")
    expect(page, wrong)
    assert page.run(ORDER) == "as given"
    assert said_common(page) == (title, rows)


def test_one_prediction_shares_nothing(page, folder, entries):
    open_index(page, folder, q=entries[7].name)
    expect(page, [entries[7]])
    assert page.run("document.querySelector('.common').hidden")


@pytest.mark.parametrize("asked", ["", "prediction=nothing&prediction=photo_001", "concept=upper/99"])
def test_a_comparison_of_nothing_leads_on(page, folder, asked):
    page.open(folder / "compare.html", asked)
    settled(page, "document.querySelector('.lead').textContent")
    lead = "document.querySelector('.lead')"
    assert page.run(f"{lead}.textContent").endswith(
        "Choose two predictions on the first page, or two concepts on the page of a layer: upper, low/er."
    )
    places = page.run(f"[...{lead}.querySelectorAll('a')].map(e => e.getAttribute('href'))")
    assert places == ["index.html", "concepts/upper/index.html", "concepts/low_er/index.html"]
    assert all((folder / place).is_file() for place in places)
    assert page.run(f"{lead}.textContent").startswith("This address does not name") == bool(asked)


@pytest.mark.parametrize("where", ["index.html", "compare.html"])
@pytest.mark.parametrize(("narrow", "rules"), STATES)
def test_axe_finds_no_fault(page, folder, entries, where, narrow, rules):
    if where == "index.html":
        open_index(page, folder, show="wrong", concept="upper/3", compare=entries[0].page)
    else:
        page.open(folder / where, f"prediction={entries[0].page}&prediction={entries[1].page}")
        settled(page, "document.querySelector('.difference:not([hidden])')")
        page.run("document.querySelectorAll('iframe').forEach(e => e.remove())")  # pages with tests of their own
    page.resize(400 if narrow else 1300, 800)
    page.media(dark=narrow)
    assert page.run("document.documentElement.scrollWidth") <= (400 if narrow else 1300)
    assert faults(page, rules) == []


def test_without_scripts_the_index_is_a_list_of_links(browser, folder, entries):
    browser.open(folder / "index.html", scripts=False)
    links = browser.run("[...document.querySelectorAll('.plain a')].map(e => e.getAttribute('href'))")
    assert links == [f"predictions/{entry.page}.html" for entry in entries]
    assert browser.run("document.querySelector('.triage').checkVisibility()") is False
