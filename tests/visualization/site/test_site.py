"""A site: what it holds and links to, what a second run makes again, what an error or an interruption leaves."""

import contextlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

import crp
from crp.errors import InputError, LibraryError
from crp.explanations import numbers
from crp.library.patches import MODES
from crp.visualization import sheets, wording
from crp.visualization.page_files import file_name, write_changed
from crp.visualization.sheets import SIDE
from crp.visualization.site import site_maker as site_module
from crp.visualization.site.site_maker import make_site
from tests.visualization.site import small_site as small

OPTIONS = dict(concepts=2, cells=3, progress=False, command="crp atlas small.crp photos --out site")


class Page(HTMLParser):
    """Start tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self._open = [], "", ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open not in ("script", "style"):
            self.text += data

    def all(self, tag, kind=""):
        return [found for name, found in self.tags if name == tag and kind in [*found.get("class", "").split(), ""]]


@pytest.fixture(scope="module")
def model():
    return small.network()


@pytest.fixture(scope="module")
def library(model, tmp_path_factory):
    return small.mined(tmp_path_factory.mktemp("mined"), model)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return small.pictures(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def made(model, library, files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "site"
    assert make_site(model, files, library, folder, **OPTIONS) == folder / "index.html"
    return folder


def moments(folder):
    """Every file with its time of change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def changed(before, after):
    return {name for name in after if before.get(name) != after[name]}


def referred(page):
    """Files that a page refers to, relative to it, in attributes and styles."""
    found = [value for _, given in Page(page).tags for name, value in given.items() if name in ("href", "src")]
    text = page.read_text("utf-8")
    found += re.findall(r"url\(([^)]+)\)", text)
    return {urlsplit(address).path for address in found if not address.startswith(("data:", "#"))}


def test_everything_that_is_referred_to_is_there(made, tmp_path):
    pages = sorted(made.rglob("*.html"))
    assert len(pages) == 1 + 3 + (1 + 6) + (1 + 8)
    for page in pages:
        assert referred(page), page
        for address in referred(page):
            assert (page.parent / unquote(address)).is_file(), f"{page} refers to {address}"
            assert "//" not in address
    order = json.loads((made / "assets" / "order.js").read_text().removeprefix("window.predictions = ").rstrip(";\n"))
    assert [page for page, _ in order] == [file_name(path.stem) for path in small.pictures(tmp_path)]
    linked = {(page.parent / address).resolve() for page in pages for address in referred(page)}
    assert {page for page in pages if page.resolve() not in linked} == set()


def test_what_pages_share_is_written_once(made):
    """No page holds script, style or a patch of its own."""
    for page in made.rglob("*.html"):
        scripts = [given for given in Page(page).all("script") if given.get("type") != "application/json"]
        names = [given.get("src", "").split("/")[-1] for given in scripts]
        assert names == (["page.js", "order.js", "site.js"] if page.parent.name == "predictions" else ["site.js"])
        assert "--paper" not in page.read_text("utf-8")
    for page in (made / "predictions").glob("*.html"):
        patches = [given["src"] for given in Page(page).all("img") if given["src"].startswith("../concepts")]
        assert len(patches) > 8
        assert page.read_text("utf-8").count("data:image") < 40


def test_an_entry_of_the_index_says_what_python_says(made, model, library, files):
    index = Page(made / "index.html")
    items = index.all("li", "prediction")
    assert len(items) == 3
    for file, item in zip(files, items, strict=True):
        explanation = crp.explain(model, file, library, concepts=2, cells=3, graph=False)
        assert explanation.target.name.lower() in item["data-text"]
        assert file.name.lower() in item["data-text"]
        for part in explanation.layers[0].ranked:
            assert f"{explanation.layers[0].layer}/{part.concept}" in item["data-text"]
            assert wording.signed_percent(part.share) in index.text
    assert "crp atlas small.crp photos --out site" in index.text
    assert str(library.path) not in index.text


def test_a_page_of_the_site_holds_the_numbers_of_a_page_alone(made, model, library, files):
    page = (made / "predictions" / "picture_0.html").read_text("utf-8")
    found = json.loads(page.split('id="atlas-numbers">')[1].split("</script>")[0])
    provenance = {"image": files[0].name, "command": ""}
    alone = crp.explain(model, files[0], library, concepts=2, cells=3, provenance=provenance)
    assert found == json.loads(json.dumps(numbers(alone)))


def test_a_card_leads_to_its_concept_and_back(made, model, library, files):
    explanation = crp.explain(model, files[0], library, concepts=2, cells=3)
    links = {given.get("href") for given in Page(made / "predictions" / "picture_0.html").all("a")}
    for layer in explanation.layers:
        place = file_name(layer.layer)
        for part in layer.ranked:
            assert f"../concepts/{place}/{part.concept}.html" in links
            back = {given.get("href") for given in Page(made / "concepts" / place / f"{part.concept}.html").all("a")}
            anchor = f"{layer.layer.replace('/', '%2F')}/{part.concept}"
            assert f"../../predictions/picture_0.html#{anchor}" in back


def test_a_concept_page_says_what_the_library_holds(made, library):
    profiles = library.profiles("upper")
    for concept in range(8):
        page = Page(made / "concepts" / "upper" / f"{concept}.html")
        for use in profiles.users(concept, 8):
            assert use.name in page.text
            assert wording.signed_percent(use.share) in page.text
        for other in profiles.alike_by_classes(concept, 8):
            assert f"{other.value:.2f}" in page.text
        for other in profiles.alike_by_samples(concept, 8):
            assert f"{other.value:.0f} of 4" in page.text
        shown = [given for given in page.all("img") if given.get("alt")]
        stored = [patch for mode in MODES for patch in library.patches("upper", concept, mode)]
        assert [given["alt"].split(": ")[1] for given in shown] == [wording.patch(patch) for patch in stored]


def said(path):
    """The text of a page, as it is read."""
    return " ".join(Page(path).text.split())


def test_every_class_named_first_comes_with_its_number_of_samples(made, library):
    """One lucky sample must not read like a finding."""
    profiles, overview = library.profiles("upper"), said(made / "concepts" / "upper" / "index.html")
    used = [concept for concept in range(8) if profiles.users(concept, 1)]
    assert len(used) > 4
    for concept in used:
        users = [use for use in profiles.users(concept, 3) if use.share >= 0.0005]
        named = [f"{wording.printable(use.name)} ({wording.class_use(use)})" for use in users]
        assert all("n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}4, few samples" in text for text in named)
        listed = {1: "{}", 2: "{} and {}", 3: "{}, {} and {}"}[len(named)].format(*named)
        read = said(made / "concepts" / "upper" / f"{concept}.html")
        assert " ".join(f"Used most by {listed}.".split()) in wording.printable(read)
        assert " ".join(f"{wording.class_mean(users[0])}, n = 4".split()) in overview


def test_a_site_says_when_classes_are_what_the_model_predicted(made, model, tmp_path):
    guessed = small.mined(tmp_path, model, targets="prediction")
    make_site(None, [], guessed, tmp_path / "site", **OPTIONS)
    sentence = "Classes are what the model predicted for the mined samples, not labels."
    for name in ("0.html", "index.html"):
        assert sentence in said(tmp_path / "site" / "concepts" / "upper" / name)
        assert sentence not in said(made / "concepts" / "upper" / name)


def test_a_model_with_one_output_has_no_classes_to_compare(files, tmp_path):
    model = small.network()
    model.e = torch.nn.Linear(512, 1)
    library = small.mined(tmp_path, model, targets="prediction", class_names=None)
    make_site(model, files[:1], library, tmp_path / "site", **OPTIONS)
    profiles, folder = library.profiles("upper"), tmp_path / "site" / "concepts" / "upper"
    signs = set()
    for concept in range(8):
        read = said(folder / f"{concept}.html")
        for word in ("Used most by", "Classes that use it", "By the classes", "not labels"):
            assert word not in read
        shown = [patch for mode in MODES for patch in library.patches("upper", concept, mode)]
        captions = re.findall(r"<figcaption><bdi>(.*?)</bdi>", (folder / f"{concept}.html").read_text("utf-8"))
        assert captions == [f"sample {patch.sample}" for patch in shown]
        use = [*profiles.users(concept, 1), *profiles.users(concept, 1, sign=-1)][0]
        signs.add(use.share > 0)
        assert (
            f"Mean share of the layer over the mined samples: {wording.class_use(use)}."
            in Page(folder / f"{concept}.html").text
        )
        assert f"{wording.class_mean(use)}, " in Page(folder / "index.html").text
    assert signs == {True, False}
    assert "Each picture with the model’s output and" in said(tmp_path / "site" / "index.html")


def test_shares_are_explained_where_they_stand(made):
    assert wording.LAYER_SHARE_MEANS in said(made / "index.html")
    concepts = [said(path) for path in (made / "concepts" / "upper").glob("?.html")]
    assert all(wording.LAYER_SHARE_MEANS in text for text in concepts)
    drawn = [text for text in concepts if "In the attribution graphs" in text]
    assert drawn
    meaning = "the relevance that flows along the edge divided by the relevance that started at the output"
    assert all(meaning in text for text in drawn)


def test_modes_without_patches_are_not_shown(made, library):
    titles = re.findall(r'id="strip-(\w+)"', (made / "concepts" / "upper" / "0.html").read_text("utf-8"))
    assert titles == [mode for mode in MODES if library.patches("upper", 0, mode)]


def test_a_sheet_holds_the_patches_of_a_concept(made, library):
    with Image.open(made / "concepts" / "upper" / "3.jpg") as picture:
        sheet = np.asarray(picture).astype(int)
    for row, mode in enumerate(MODES):
        for column, patch in enumerate(library.patches("upper", 3, mode)):
            cell = sheet[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            picture = Image.fromarray(np.ascontiguousarray(patch.picture))
            stretched = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
            assert np.abs(cell - stretched).mean() < 3  # a JPEG


def test_hostile_names_are_text(made, files):
    """What a tag could come from is text or an attribute's value; addresses are plain."""
    for page in made.rglob("*.html"):
        parsed = Page(page)
        assert all("onerror" not in given for _, given in parsed.tags)
        assert all(given.get("src") != "x" for given in parsed.all("img"))
    assert small.HOSTILE in Page(made / "concepts" / "upper" / "0.html").text
    assert files[1].name in Page(made / "index.html").text
    names = [path.name for path in made.rglob("*")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names), names


def test_names_of_pages_are_told_apart():
    taken = []
    for text in ("Zebra", "zebra", "zebra!", "zebra?", "index", ".hidden", "", "x" * 200):
        taken.append(file_name(text, taken))
    assert taken == ["Zebra", "zebra-2", "zebra_", "zebra_-2", "index-2", "hidden", "_", "x" * 80]


# -- a second run


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made, tmp_path / "site")
    return tmp_path / "site"


def counted(monkeypatch):
    """How many pictures are explained from now on."""
    from crp.explanations import computation as explaining

    names, kept = [], explaining.explain
    monkeypatch.setattr(
        explaining,
        "explain",
        lambda model, path, *more, **options: (names.append(Path(path).name), kept(model, path, *more, **options))[1],
    )
    return names


def test_a_second_run_changes_no_file(copied, model, library, files, monkeypatch):
    explained, before = counted(monkeypatch), moments(copied)
    make_site(model, files, library, copied, **OPTIONS)
    assert (explained, changed(before, moments(copied))) == ([], set())


def test_a_changed_picture_is_explained_again(copied, model, library, files, tmp_path, monkeypatch):
    given = [tmp_path / file.name for file in files]
    for index, path in enumerate(given):
        small.noise(100 + index if index != 2 else 7).save(path)
    explained, before = counted(monkeypatch), moments(copied)
    make_site(model, given, library, copied, **OPTIONS)
    assert explained == ["picture 2.png"]
    found = changed(before, moments(copied))
    assert {name for name in found if name.startswith("predictions")} == {
        f"predictions/picture_2.{suffix}" for suffix in ("html", "jpg", "json")
    }
    assert not {name for name in found if name.endswith((".jpg", ".png")) and name.startswith("concepts")}


@pytest.mark.parametrize("change", [{"concepts": 1}, {"target": 0}, {"graph": False}])
def test_other_options_make_other_pages(copied, model, library, files, change, monkeypatch):
    explained = counted(monkeypatch)
    make_site(model, files, library, copied, **OPTIONS | change)
    assert explained == [file.name for file in files]


def test_another_library_makes_everything_anew(copied, library, files, tmp_path, monkeypatch):
    other = small.network(1)
    explained, before = counted(monkeypatch), moments(copied)
    make_site(other, files, small.mined(tmp_path, other), copied, **OPTIONS)
    assert len(explained) == 3
    found = changed(before, moments(copied))
    assert {f"concepts/upper/{concept}.jpg" for concept in range(8)} <= found


def test_sheets_of_another_layout_are_made_anew(copied, model, library, files, monkeypatch):
    """A page must not cut patches from a sheet whose cells lie elsewhere."""
    monkeypatch.setattr(sheets, "GLIMPSE_COLUMNS", 3)
    monkeypatch.setattr(site_module, "LAYOUT", (*sheets.LAYOUT[:-1], 3))
    make_site(model, files, library, copied, **OPTIONS)
    with Image.open(copied / "concepts" / "upper" / "glimpses.jpg") as picture:
        assert picture.size == (3 * sheets.GLIMPSE_SIDE, 3 * sheets.GLIMPSE_SIDE)
    for page in [*copied.rglob("concepts/*/?.html"), *copied.glob("predictions/*.html")]:
        assert "--n:16" not in page.read_text("utf-8")


def test_fewer_layers_leave_no_pages_of_the_others(copied, model, library, files):
    make_site(model, files, library, copied, layers=["upper"], **OPTIONS)
    assert [path.name for path in (copied / "concepts").iterdir()] == ["upper"]


def test_pages_of_pictures_that_are_not_given_any_more_are_removed(copied, model, library, files, monkeypatch):
    (copied / "predictions" / "notes.txt").write_text("mine")
    explained = counted(monkeypatch)
    make_site(model, files[:1], library, copied, **OPTIONS)
    assert explained == []
    names = {path.name for path in (copied / "predictions").iterdir()}
    assert names == {"picture_0.html", "picture_0.jpg", "picture_0.json", "notes.txt"}
    assert len(Page(copied / "index.html").all("li", "prediction")) == 1


def test_concepts_alone_need_no_model(files, library, tmp_path):
    with pytest.raises(InputError, match="Pictures are explained with a model: give the one that was mined"):
        make_site(None, files, library, tmp_path / "site", **OPTIONS)
    make_site(None, [], library, tmp_path / "site", **OPTIONS)
    assert len(list((tmp_path / "site" / "concepts").rglob("*.html"))) == 16
    index = Page(tmp_path / "site" / "index.html")
    assert index.all("li", "prediction") == []
    assert "Predictions that use it" not in Page(tmp_path / "site" / "concepts" / "upper" / "0.html").text


def test_a_library_without_patches(model, files, tmp_path):
    library = small.mined(tmp_path, model, patches=0)
    make_site(model, files[:1], library, tmp_path / "site", **OPTIONS)
    page = Page(tmp_path / "site" / "concepts" / "upper" / "0.html")
    assert "The library has no patches of this concept." in page.text
    for path in (tmp_path / "site").rglob("*.html"):
        assert all((path.parent / unquote(address)).is_file() for address in referred(path))


# -- what goes wrong


def test_an_interruption_leaves_complete_pages_and_says_how_to_go_on(model, library, files, tmp_path, monkeypatch):
    from crp.explanations import computation as explaining

    kept, folder = explaining.explain, tmp_path / "site"

    def interrupted(model, path, *more, **options):
        if Path(path).name == "picture 2.png":
            raise KeyboardInterrupt
        return kept(model, path, *more, **options)

    monkeypatch.setattr(explaining, "explain", interrupted)
    with pytest.raises(KeyboardInterrupt) as error:
        make_site(model, files, library, folder, **OPTIONS)
    assert error.value.__notes__ == [
        f"2 of 3 predictions and 0 of 14 concept pages are complete in '{folder}'; the same command goes on from there."
    ]
    stems = {path.name.split(".")[0] for path in (folder / "predictions").iterdir()}
    assert len(stems) == 2
    files_of = [folder / "predictions" / f"{stem}.{kind}" for stem in stems for kind in ("html", "jpg", "json")]
    assert all(path.exists() for path in files_of)
    assert not list(folder.rglob("*.part"))
    monkeypatch.setattr(explaining, "explain", kept)
    explained = counted(monkeypatch)
    make_site(model, files, library, folder, **OPTIONS)
    assert explained == ["picture 2.png"]


def test_an_interruption_at_any_file_leaves_no_half_of_one(model, library, files, tmp_path, monkeypatch, made):
    """Cut after 1, 8, 15, ... files written: what is there is whole, and going on leads to the same site."""
    folder, kept, limit = tmp_path / "site", site_module.replace_file, [0]
    from crp.visualization import page_files as files_module
    from crp.visualization.site import shared as shared_module

    def limited(path, write):
        limit[0] -= 1
        if limit[0] < 0:
            raise KeyboardInterrupt
        kept(path, write)

    for module in (site_module, files_module, shared_module):
        monkeypatch.setattr(module, "replace_file", limited)
    for count in range(1, 60, 7):
        limit[0] = count
        with contextlib.suppress(KeyboardInterrupt):
            make_site(model, files, library, folder, **OPTIONS)
        assert not list(folder.rglob("*.part"))
    limit[0] = 1000
    make_site(model, files, library, folder, **OPTIONS)
    ours, theirs = (
        {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (folder, made)
    )
    assert ours == theirs


def test_a_picture_that_fails_is_named_and_stops_no_other(model, library, files, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(InputError) as error:
        make_site(model, [files[0], broken, files[2]], library, tmp_path / "site", **OPTIONS)
    index = tmp_path / "site" / "index.html"
    assert str(error.value) == (
        f"1 of 3 pictures could not be explained and are not in '{index}': "
        f"'{broken}' is not a picture: it is a text that begins with 'no picture'."
    )
    assert len(Page(index).all("li", "prediction")) == 2
    assert "broken" not in (tmp_path / "site" / "assets" / "order.js").read_text()


def test_a_picture_that_fails_later_loses_its_page(copied, model, library, files, tmp_path):
    broken = tmp_path / files[2].name
    broken.write_bytes(b"no picture any more")
    with pytest.raises(InputError, match="1 of 3 pictures"):
        make_site(model, [*files[:2], broken], library, copied, **OPTIONS)
    assert not list((copied / "predictions").glob("picture_2.*"))
    for page in copied.rglob("*.html"):
        assert all((page.parent / unquote(address)).is_file() for address in referred(page))


def test_what_fails_for_every_picture_is_said_at_once(model, library, files, tmp_path, monkeypatch):
    explained = counted(monkeypatch)
    with pytest.raises(InputError, match=r"^There is no class 'ent': did you mean 'ant'\?$"):
        make_site(model, [*files, *files], library, tmp_path / "site", **OPTIONS | {"target": "ent"})
    assert len(explained) == 3


def test_a_folder_of_something_else_is_left_alone(model, library, files, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError) as error:
        make_site(model, files, library, tmp_path, **OPTIONS)
    assert str(error.value) == f"'{tmp_path}' exists and is not a site: choose another folder, or empty it."
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_another_model_or_layer_is_refused_before_anything_is_written(library, model, files, tmp_path):
    with pytest.raises(LibraryError, match=r" was mined with other weights \("):
        make_site(small.network(1), files, library, tmp_path / "site", **OPTIONS)
    with pytest.raises(InputError, match=r"^The library does not hold layer 'uper': did you mean 'upper'\?$"):
        make_site(model, files, library, tmp_path / "site", layers=["uper"], **OPTIONS)
    assert not (tmp_path / "site").exists()


def test_only_what_differs_is_written(tmp_path):
    path = tmp_path / "a"
    assert [write_changed(path, content) for content in (b"1", b"1", b"2")] == [True, False, True]
    assert path.read_bytes() == b"2"
