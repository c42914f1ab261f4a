"""The page of suspects: evidence in words, rows that were not measured apart, verdicts given in a browser."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from torch.utils.data import TensorDataset

import crp
from crp.correction import Candidate, candidates
from crp.library import Library, read_names
from crp.visualization.report.suspects_page import suspects_report
from page_in_browser import STATES, faults
from tests.crp.correction.planted import planted_data, planted_model


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return crp.mine(
        planted_model(), TensorDataset(*planted_data(80)), layers=["conv"], patches=4, progress=False, vectors=True,
        path=tmp_path_factory.mktemp("page") / "a.crp", class_names=["first", "<b>second</b>"],
        preprocessing=crp.Preprocessing(), targets="label",
    )  # fmt: skip


@pytest.fixture
def found(library: Library) -> list[Candidate]:
    rows = candidates(library)
    tag = dataclasses.replace(rows[0], kept=0.05, pulled=0.875, relevance_outside=0.93, area_outside=0.79)
    return [tag, *rows[1:]]


def words(page: str) -> str:
    return " ".join(page.replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_evidence_is_said_and_what_was_not_measured_stands_apart(library: Library, found: list[Candidate]) -> None:
    page = suspects_report(found, library)
    text = words(page)
    assert "<b>second" not in page
    assert (
        "With it taken out, 5 % are still recognised; with it put into others, 88 % are taken for &lt;b&gt;second"
    ) in text
    assert "67 %</b></span></td><td>93 % of its relevance and 79 % of the input lie outside the object." in text
    # the tag: 36 of 36 against 0 of 4
    assert (
        "100 % of those that use it more are right, 0 % of the others. "
        "The lower end of the 95 % interval of the difference is 50 points."
    ) in text
    few = dataclasses.replace(found[0], having=5, lacking=3, right=1.0, right_lacking=2 / 3)
    assert "of the difference is 0: too few samples to tell the two apart." in words(suspects_report([few], library))
    assert "likely a Clever Hans" in text
    assert len(found) > 1
    assert text.count("Not measured: only the first rows are (--measured)") == len(found) - 1
    assert "give --data" not in text
    assert text.index("<h2>Likely</h2>") < text.index('data-name="conv/0"') < text.index("<h2>Not measured</h2>")
    assert text.index("<h2>Not measured</h2>") < text.index(f'data-name="{found[1].name}"')
    # the patches of a concept are those of the library
    assert page.count("<img ") == sum(
        len(library.patches("conv", one.concept, "relevance", count=8)) for one in found
    )
    # with nothing measured there is one list, and no row is said to be worth less
    text = words(suspects_report(candidates(library), library))
    assert text.count("Not measured: give --data.") == len(found)
    assert "<h2>Likely</h2>" not in text
    assert "<h2>Not measured</h2>" not in text


def test_every_bar_has_its_number_and_the_page_says_what_likely_is(library: Library, found: list[Candidate]) -> None:
    tag = dataclasses.replace(
        found[0], having=4, lacking=96, share=0.762, share_lacking=0.606, mean=0.613, elsewhere=0.03, place=0.12
    )
    page = suspects_report([tag, *found[1:]], library)
    text = words(page)
    assert "In 4 samples it holds 76.2 % of the relevance on average; in the other 96, 60.6 %." in text
    assert "It holds 61.3 % of the class’s relevance on average, and at most 3.0 % of another’s." in text
    assert "12 % of it is the same content at a fixed place, as a watermark would be" in text
    amounts = re.findall(r'<i style="width:([\d.]+)%"></i></span><b>(\d+) %</b></span>', text)
    assert len(amounts) == page.count('class="track"') > 8
    for width, amount in amounts:
        assert int(amount) == pytest.approx(min(100, float(width)), abs=0.51)
    assert [amount for _, amount in amounts[:2]] == ["58", "16"]
    stands = dataclasses.replace(found[0], place=0.9)
    assert "They meet the criteria at the foot of the page." in words(suspects_report([stands, *found[1:]], library))
    assert "A concept is called likely if exclusive is above 30 %, gap above 20 % and errors above 0 %, or if" in text


def test_an_empty_list_says_so(library: Library) -> None:
    assert "No concept holds 5 % of the relevance" in suspects_report([], library)


@pytest.fixture
def page(browser, library: Library, found: list[Candidate], tmp_path: Path):
    path = tmp_path / "suspects.html"
    path.write_text(suspects_report(found, library), "utf-8")
    browser.open(path)
    yield browser
    assert browser.complaints == []
    assert {address.split(":")[0] for address in browser.requests} <= {"file", "data", "blob"}


def test_a_verdict_given_on_the_page_is_merged_into_the_library(
    page, library: Library, found: list[Candidate], tmp_path: Path
) -> None:
    page.click('[data-edit="conv/0"]')
    page.run("document.querySelector('.naming input').focus()")
    page.type("stamp")
    page.run("document.querySelector('.naming select').value = 'artefact'")
    page.run("document.querySelector('.naming .save').click()")
    assert page.run("document.querySelector('[data-said=\"conv/0\"]').textContent").strip() == "artefact"
    assert "stamp" in page.run("document.querySelector('[data-name=\"conv/0\"] h3').textContent")
    (tmp_path / "names.json").write_text(page.run("window.conceptNames.file()"), "utf-8")
    page.run("localStorage.clear()")
    merged = library.merge_names(read_names(tmp_path / "names.json").values())
    try:
        assert not merged.refused
        again = suspects_report(found, library)
        assert "<b>artefact</b>" in again
        assert '<bdi data-name="name" data-of="conv/0">stamp</bdi>' in again
    finally:
        (library.path / "names.json").unlink()


@pytest.mark.parametrize(("narrow", "rules"), STATES)
def test_axe_finds_no_fault(page, narrow: bool, rules: str | None) -> None:
    page.media(dark=narrow)
    page.resize(400 if narrow else 1300, 800)
    assert faults(page, rules) == []
    assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_print_keeps_a_title_with_what_follows(page) -> None:
    """A page may end before a title and its sentence, not after; what follows them is no grid, inside which it may."""
    page.media(kind="print")
    kept = "[...document.querySelectorAll('main h2, h2 + .means')].map(e => getComputedStyle(e).breakAfter)"
    assert set(page.run(kept)) == {"avoid"}
    lists = "[...document.querySelectorAll('.suspects')].map(e => getComputedStyle(e).display)"
    assert set(page.run(lists)) == {"block"}


def test_without_scripts_the_evidence_is_said_and_nothing_can_be_edited(
    browser, library: Library, found: list[Candidate], tmp_path: Path
) -> None:
    path = tmp_path / "plain.html"
    path.write_text(suspects_report(found, library), "utf-8")
    browser.open(path, scripts=False)
    count = "[...document.querySelectorAll('{}')].filter(e => e.getBoundingClientRect().height > 0).length"
    assert browser.run(count.format(".evidence")) == len(found)
    assert browser.run(count.format(".name-it")) == 0
