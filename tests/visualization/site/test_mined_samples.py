"""Pages of concepts lead to all mined samples that use them, and to their pictures."""

import contextlib
import json
import re
import time

import numpy as np
import pytest
import torch

from crp.library.patches import MODES
from crp.visualization import triage_wording, wording
from crp.visualization.site import sample_uses
from crp.visualization.site.sample_uses import SampleUses
from crp.visualization.site.site_maker import make_site
from tests.visualization.site import small_site as small

LAYER = "upper"


class Named(small.Pictures):
    """The mined pictures, as files below a folder."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        for index in range(len(self)):
            small.noise(index).save(path / self.sample_name(index))

    def sample_name(self, index):
        return f"sample #{index}.png"


class Drawn(small.Pictures):
    """The same pictures, which have names and no files."""

    def sample_name(self, index):
        return f"drawn #{index}"


class Few(Drawn):
    """Other data: fewer than were mined."""

    def __len__(self):
        return 5


@pytest.fixture(scope="module")
def with_vectors(model, tmp_path_factory):
    return small.mined(tmp_path_factory.mktemp("vectors"), model, vectors=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Named(tmp_path_factory.mktemp("data") / "mined")


@pytest.fixture(scope="module")
def folder(model, with_vectors, data, tmp_path_factory):
    """A site of two of the mined pictures."""
    pictures = [data.path / data.sample_name(index) for index in (2, 5)]
    place = tmp_path_factory.mktemp("with samples") / "site"
    make_site(
        model, pictures, with_vectors, place, labels={pictures[0]: 2, pictures[1]: "ant"}, data=data, **small.OPTIONS
    )
    return place


def embedded(folder, concept):
    text = (folder / "concepts" / LAYER / f"{concept}.html").read_text("utf-8")
    return json.loads(text.split('id="sample-uses">')[1].split("</script>")[0])


def script(folder):
    return json.loads((folder / "assets" / "samples.js").read_text("ascii").split(" = ", 1)[1].rstrip(";\n"))


def test_every_use_is_listed_and_nothing_else(folder, with_vectors):
    """Against the matrix of the library, sample by sample."""
    relevance = np.asarray(with_vectors.vectors(LAYER).relevance)
    for concept in range(8):
        found = embedded(folder, concept)
        shares = dict(zip(found["pairs"][::2], found["pairs"][1::2], strict=True))
        expected = {i: int(float(v) * 100_000) for i, v in enumerate(relevance[:, concept]) if abs(v) >= 0.0005}
        assert shares == expected
        assert list(shares.values()) == sorted(expected.values(), reverse=True)
        assert (found["count"], found["mined"]) == (len(expected), 12)


def test_of_many_the_strongest_are_listed(with_vectors, monkeypatch):
    monkeypatch.setattr(sample_uses, "LISTED", 3)
    column = np.asarray(with_vectors.vectors(LAYER).relevance)[:, 3]
    found = SampleUses(with_vectors, {}).of(LAYER, 3)
    assert set(found["pairs"][::2]) == set(np.argsort(-np.abs(column))[:3].tolist())
    assert found["count"] == int((np.abs(column) >= 0.0005).sum()) > 3
    assert triage_wording.sample_uses(found["count"], 12, 3).endswith(
        "The 3 with the largest absolute shares are listed."
    )


def test_what_is_known_of_samples(folder, with_vectors, data):
    content, vectors = script(folder), with_vectors.vectors(LAYER)
    names = content["names"]
    assert [names[c] for c in content["label"]] == [small.NAMES[i % 3] for i in range(12)]
    assert [names[c] for c in content["prediction"]] == [small.NAMES[c] for c in vectors.prediction]
    assert content["right"] == (vectors.prediction == vectors.label).astype(int).tolist()
    assert content["files"] == [data.sample_name(i) for i in range(12)]
    assert content["pages"] == {"2": "sample_2", "5": "sample_5"}
    assert (folder / content["root"].replace("%20", " ")).resolve() == data.path.resolve()
    assert not content["root"].startswith("/")


def test_without_vectors_or_data_nothing_is_claimed(made, library, with_vectors, monkeypatch):
    monkeypatch.setattr(with_vectors, "samples", None)
    source = (made / "concepts" / LAYER / "3.html").read_text("utf-8")
    assert triage_wording.NO_SAMPLES in source
    assert "sample-uses" not in source
    assert not (made / "assets" / "samples.js").exists()
    assert SampleUses(library, {}).of(LAYER, 3) is None
    assert SampleUses(with_vectors, {})._places(made) == {"files": None, "root": "", "pages": {}}


def settled(page, condition):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(RuntimeError):
            if page.run(f"Boolean({condition})"):
                return
        time.sleep(0.02)
    pytest.fail(f"not true: {condition}")


def test_samples_in_the_browser(browser, folder, with_vectors, data):
    browser.open(folder / "concepts" / LAYER / "3.html")
    assert not [address for address in browser.requests if address.endswith("samples.js")]
    browser.click(".mined-samples .open")
    settled(browser, "document.querySelector('.mined-samples .prediction')")
    column = np.asarray(with_vectors.vectors(LAYER).relevance)[:, 3]
    order = [i for i in np.argsort(-column, kind="stable") if abs(column[i]) >= 0.0005]
    items = "[...document.querySelectorAll('.mined-samples .prediction')]"
    assert browser.run(f"{items}.map(e => e.querySelector('.file').textContent)") == [
        data.sample_name(i) for i in order
    ]
    assert browser.run(f"{items}.map(e => e.querySelector('.number').textContent)") == [
        wording.signed_percent(float(column[i])) for i in order
    ]
    # a sample that the site explains leads to its page, the others to their files, which are there
    links = browser.run(f"{items}.map(e => e.querySelector('a.face').href)")
    for sample, link in zip(order, links, strict=True):
        if sample in (2, 5):
            assert link.endswith(f"predictions/sample_{sample}.html#{LAYER}/3")
        else:
            assert link == (data.path.resolve() / data.sample_name(sample)).as_uri()
    broken = (
        "Promise.all([...document.querySelectorAll('.mined-samples img')].map(i => { i.loading = 'eager'; "
        "return i.decode().then(() => 0, () => 1); })).then(all => all.reduce((a, b) => a + b, 0))"
    )
    assert browser.run(broken) == 0
    vectors = with_vectors.vectors(LAYER)
    wrong = [data.sample_name(i) for i in order if vectors.prediction[i] != vectors.label[i]]
    only = "document.querySelector('.mined-samples [data-field=only]')"
    browser.run(f"{only}.value = 'wrong'; {only}.dispatchEvent(new Event('change'))")
    assert browser.run(f"{items}.map(e => e.querySelector('.file').textContent)") == wrong
    assert browser.run("document.querySelector('.mined-samples [role=status]').textContent") == (
        f"{len(wrong)} of {len(wrong)} samples"
    )
    assert browser.complaints == []


def test_a_patch_leads_to_the_picture_it_is_a_part_of(browser, folder, with_vectors, data):
    """By mouse; its tooltip names the file. A sound's button is no part of a link."""
    browser.open(folder / "concepts" / LAYER / "3.html")
    figures = "[...document.querySelectorAll('.big-strips figure')]"
    found = browser.run(f"{figures}.map(e => [e.querySelector('a > b').title, e.querySelector('a').href])")
    patches = [patch for mode in MODES for patch in with_vectors.patches(LAYER, 3, mode)]
    assert len(patches) >= 4
    for patch, (title, link) in zip(patches, found, strict=True):
        name = data.sample_name(patch.sample)
        assert title.partition(": ")[2].startswith(f"{name}, sample {patch.sample}, ")
        assert link == (data.path.resolve() / name).as_uri()
    browser.click(".big-strips figure")
    settled(browser, f"location.href === {found[0][1]!r}")


def test_the_page_of_a_concept_that_no_sample_uses_works(browser, data, tmp_path):
    model = small.network()
    with torch.no_grad():
        model.upper.weight[6], model.upper.bias[6] = 0, -1
    library = small.mined(tmp_path, model, vectors=True)
    make_site(None, [], library, tmp_path / "site", data=data, progress=False)
    browser.open(tmp_path / "site" / "concepts" / LAYER / "6.html")
    assert "None of the 12 mined samples gives it 0.05 %" in browser.run("document.body.textContent")
    found = browser.run("[...document.querySelectorAll('.big-strips figure')].map(e => e.querySelector('a').href)")
    assert len(found) == sum(len(library.patches(LAYER, 6, mode)) for mode in MODES) > 0
    browser.click("[data-take=address]")
    settled(browser, "document.querySelector('[data-take=address]').textContent !== 'Copy link'")
    assert browser.complaints == []


def test_cards_name_the_files_of_their_patches(browser, folder, with_vectors, data):
    """On the page of a prediction, as on that of a concept; the number stands beside."""
    browser.open(folder / "predictions" / "sample_2.html")
    layer, concept, told = browser.run(
        "(card => [card.closest('.panel').dataset.layerName, Number(card.dataset.concept),"
        " [...card.querySelectorAll('.patches b')].map(e => e.title)])"
        "(document.querySelector('.panel:not([hidden]) .card'))"
    )
    patches = [patch for mode in MODES[:2] for patch in with_vectors.patches(layer, concept, mode)]
    assert len(told) == len(patches) > 2
    for text, patch in zip(told, patches, strict=True):
        name = data.sample_name(patch.sample)
        assert patch.sample_name == name
        assert text.partition(": ")[2].startswith(f"{name}, sample {patch.sample}, ")


def test_without_classes_captions_are_the_names_of_files(data, tmp_path):
    model = small.network()
    model.e = torch.nn.Linear(512, 1)
    library = small.mined(tmp_path, model, targets="prediction", class_names=None)
    library.samples = data
    make_site(None, [], library, tmp_path / "site", progress=False)
    source = (tmp_path / "site" / "concepts" / LAYER / "3.html").read_text("utf-8")
    shown = [patch for mode in MODES for patch in library.patches(LAYER, 3, mode)]
    captions = re.findall(r"<figcaption><bdi>(.*?)</bdi>", source)
    assert captions == [data.sample_name(patch.sample) for patch in shown]
    assert library.sample_name(3) == "sample #3.png"
    library.samples = Few()
    assert library.sample_name(3) == ""


def test_data_that_were_moved_are_found_again(library, data, tmp_path, monkeypatch):
    """Pages are made again where only the place of the samples' files has changed, with vectors or without."""
    monkeypatch.setattr(library, "samples", None)
    page = tmp_path / "site" / "concepts" / LAYER / "3.html"
    for known in (None, data):
        make_site(None, [], library, tmp_path / "site", data=known, progress=False)
        assert ("data-source" in page.read_text("utf-8")) == (known is not None)


def test_samples_without_files_say_so(browser, with_vectors, tmp_path):
    make_site(None, [], with_vectors, tmp_path / "site", data=Drawn(), progress=False)
    browser.open(tmp_path / "site" / "concepts" / LAYER / "3.html")
    assert not browser.run("document.querySelector('.big-strips a')")
    title = browser.run("document.querySelector('.big-strips b').title")
    assert title.startswith("1: drawn #")
    browser.click(".mined-samples .open")
    settled(browser, "document.querySelector('.mined-samples .prediction')")
    said = browser.run("document.querySelector('.out-of-reach').textContent")
    assert said.startswith("They have no pictures and no links, because the mined data are not files")


@pytest.mark.parametrize(("width", "kind"), [(1300, ""), (390, ""), (1300, "print")])
def test_no_word_touches_the_edge_of_its_card(browser, folder, width, kind):
    """Line by line, on the pages of a concept and on the index."""
    for page, opened in ((f"concepts/{LAYER}/3.html", ".mined-samples .open"), ("index.html", "")):
        browser.open(folder / page)
        browser.resize(width, 900)
        if opened:
            browser.click(opened)
            settled(browser, "document.querySelector('.mined-samples .prediction')")
        else:
            settled(browser, "document.querySelector('.gallery .prediction')")
        browser.media(kind=kind)
        lines, nearest = browser.run(LINES)
        assert lines > 10
        assert nearest >= 7


# Of all lines of text on cards: how many, and the smallest distance to the left edge of their card.
LINES = """(() => {
  const found = [];
  for (const face of document.querySelectorAll('.prediction .face')) {
    const walker = document.createTreeWalker(face, NodeFilter.SHOW_TEXT), edge = face.getBoundingClientRect().left;
    while (walker.nextNode()) {
      const range = document.createRange();
      range.selectNodeContents(walker.currentNode);
      for (const line of range.getClientRects()) if (line.width > 1) found.push(line.left - edge);
    }
  }
  return [found.length, Math.min(...found)];
})()"""


def test_a_concept_leads_to_its_predictions_in_order(browser, folder):
    browser.open(folder / "concepts" / LAYER / "3.html")
    link = browser.run("document.querySelector('.head .take a').textContent")
    assert link == "Predictions in which it holds at least 1 %, sorted"
    browser.click(".head .take a")
    settled(browser, "location.pathname.endsWith('/index.html') && document.getElementById('count')?.textContent")
    assert browser.run("document.getElementById('count').textContent").endswith(
        f", in which {LAYER}/3 holds at least 1\N{NO-BREAK SPACE}% of {LAYER}"
    )
    assert browser.run("document.querySelector('[data-field=concept]').value") == f"{LAYER}/3"


def test_a_page_says_whether_it_is_right(folder, model, with_vectors):
    text = (folder / "predictions" / "sample_2.html").read_text("utf-8")
    best = with_vectors.vectors(LAYER).prediction[2]
    said = "right, labelled cat" if best == 2 else "wrong, labelled cat"
    assert said in text
