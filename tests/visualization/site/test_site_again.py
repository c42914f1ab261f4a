"""A site made again: what a second run makes anew, what an error or an interruption leaves."""

import contextlib
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

import crp
from crp.errors import InputError, LibraryError
from crp.visualization import sheets
from crp.visualization.page_files import write_changed
from crp.visualization.picture_formats import PATCHES_SUFFIX, SUFFIX
from crp.visualization.site import site_maker as site_module
from crp.visualization.site.concept_page import ConceptPages
from crp.visualization.site.site_maker import make_site
from tests.visualization.site import small_site as small
from tests.visualization.site.reading import Page, referred
from tests.visualization.site.small_site import OPTIONS


def moments(folder):
    """Every file with its time of change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def changed(before, after):
    return {name for name in after if before.get(name) != after[name]}


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
        f"predictions/picture_2{suffix}" for suffix in (".html", SUFFIX, ".json")
    }
    sheets = (SUFFIX, PATCHES_SUFFIX, ".png")
    assert not {name for name in found if name.endswith(sheets) and name.startswith("concepts")}


def test_one_more_picture_draws_only_the_concepts_that_it_shows(copied, model, library, files, tmp_path, monkeypatch):
    """It writes these, its own page and the files about all predictions, and each is that of a site made at once."""
    drawn, page = [], ConceptPages.page
    monkeypatch.setattr(
        ConceptPages, "page", lambda self, concept: (drawn.append((self._layer, concept)), page(self, concept))[1]
    )
    more = [*files, tmp_path / "more.png"]
    small.noise(55).save(more[-1])
    options = OPTIONS | {"graph": False, "layers": ["upper"]}
    make_site(model, files, library, copied, **options)
    drawn.clear()
    before = moments(copied)
    make_site(model, more, library, copied, **options)
    (layer,) = crp.explain(model, more[-1], library, concepts=2, cells=3, graph=False, layers=["upper"]).layers
    shown = {("upper", part.concept) for part in layer.ranked}
    assert len(shown) < 8
    assert set(drawn) == shown
    assert len(drawn) == len(shown)
    assert changed(before, moments(copied)) == {
        *(f"predictions/more{suffix}" for suffix in (".html", SUFFIX, ".json")),
        *("index.html", "assets/predictions.js", "assets/order.js"),
        *(f"concepts/upper/{concept}.html" for _, concept in shown),
        *(f"concepts/upper/{name}" for name in ("index.html", "pages.json", "shares.js")),
    }
    make_site(model, more, library, tmp_path / "whole", **options)
    for path in (tmp_path / "whole").rglob("*"):
        again = copied / path.relative_to(tmp_path / "whole")
        assert path.is_dir() or again.read_bytes() == path.read_bytes(), again


def test_layers_of_many_concepts_have_a_sheet_that_can_be_written():
    assert [sheets.glimpse_columns(count) for count in (1, 256, 257, 2000, 65_025)] == [16, 16, 17, 45, 255]
    assert sheets.glimpse_columns(65_025) * sheets.GLIMPSE_SIDE <= 16_383


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
    assert {f"concepts/upper/{concept}{PATCHES_SUFFIX}" for concept in range(8)} <= found


def test_sheets_of_another_layout_are_made_anew(copied, model, library, files, monkeypatch):
    """A page must not cut patches from a sheet whose cells lie elsewhere."""
    monkeypatch.setattr(sheets, "GLIMPSE_COLUMNS", 3)
    monkeypatch.setattr(site_module, "LAYOUT", (*sheets.LAYOUT[:-1], 3))
    make_site(model, files, library, copied, **OPTIONS)
    with Image.open(copied / "concepts" / "upper" / f"glimpses{SUFFIX}") as picture:
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
    assert names == {"picture_0.html", f"picture_0{SUFFIX}", "picture_0.json", "notes.txt"}
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
        f"2 of 3 predictions and 0 of 14 concept pages are complete in '{folder}'; the same command resumes from there."
    ]
    stems = {path.name.split(".")[0] for path in (folder / "predictions").iterdir()}
    assert len(stems) == 2
    kinds = (".html", SUFFIX, ".json")
    files_of = [folder / "predictions" / f"{stem}{kind}" for stem in stems for kind in kinds]
    assert all(path.exists() for path in files_of)
    assert not list(folder.rglob("*.part"))
    monkeypatch.setattr(explaining, "explain", kept)
    explained = counted(monkeypatch)
    make_site(model, files, library, folder, **OPTIONS)
    assert explained == ["picture 2.png"]


def test_an_interruption_at_any_file_leaves_no_half_of_one(model, library, files, tmp_path, monkeypatch, made):
    """Cut after 1, 8, 15, ... files written: what is there is whole, and going on leads to the same site."""
    from crp.visualization import page_files as files_module

    folder, kept, limit = tmp_path / "site", files_module.replace_file, [0]

    def limited(path, write):
        limit[0] -= 1
        if limit[0] < 0:
            raise KeyboardInterrupt
        kept(path, write)

    monkeypatch.setattr(files_module, "replace_file", limited)
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
