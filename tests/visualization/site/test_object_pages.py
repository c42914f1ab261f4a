"""The pages of all objects of a picture, and their index, in a browser."""

import contextlib
import csv
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import crp
from crp.analysis import object_contexts
from crp.attribution.starts import ClassInMask
from crp.cli.group import main
from crp.errors import InputError, ModelError
from crp.explanations.object_explanations import explain_objects
from crp.visualization.site.object_pages import make_object_pages
from page_in_browser import COLOURS, faults

NAMES = ["background", "red", "green", "blue"]


class Segmenter(nn.Module):
    """Where red, green or blue is bright; else the background."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 4, 1)
        self.conv.weight.data = torch.eye(3)[:, :, None, None]
        self.head.weight.data = torch.eye(4)[:, 1:, None, None]
        self.head.bias.data = torch.tensor([0.5, 0, 0, 0])

    def forward(self, data):
        return self.head(self.conv(data).relu())


def picture(path, *, blue=True):
    image = Image.new("RGB", (40, 30))
    image.paste("red", (2, 2, 12, 12))
    image.paste("lime", (20, 5, 35, 25))
    if blue:
        image.putpixel((0, 29), (0, 0, 255))  # less than 0.2 % of the picture
    image.save(path)
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    data = [torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    return crp.mine(
        Segmenter(),
        data,
        layers=["conv"],
        path=tmp_path_factory.mktemp("mined") / "colours.crp",
        targets=ClassInMask(1),
        class_names=NAMES,
        preprocessing=crp.Preprocessing(),
        k=2,
        patches=1,
        progress=False,
    )


@pytest.fixture(scope="module")
def folder(library, tmp_path_factory):
    """What `crp atlas --objects` writes."""
    place = tmp_path_factory.mktemp("objects")
    image = picture(place / "colours.png")
    out = place / "pages"
    words = ["atlas", str(library.path), str(image), "--objects", "--model", f"{__file__}:Segmenter", "--out", str(out)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert done.output.strip().splitlines()[-1] == str(out / "index.html")
    return out


def wait_for(page, ending):
    """Wait until the browser is at another page, and that is loaded."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        # between two pages there is none to ask
        with contextlib.suppress(RuntimeError):
            if page.run("[location.pathname.split('/').pop(), document.readyState]") == [ending, "complete"]:
                return
        time.sleep(0.02)
    pytest.fail(f"not at {ending}")


def test_there_is_a_page_for_each_object_and_a_row_for_each_of_its_concepts(folder, library):
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.html", "object-0.html", "object-1.html", "objects.csv",
    ]  # fmt: skip
    rows = list(csv.DictReader((folder / "objects.csv").read_text().splitlines()))
    assert [(row["object"], row["class"], row["concept"], row["context"]) for row in rows] == [
        ("0", "green", "1", "0.0"), ("1", "red", "0", "0.0"),
    ]  # fmt: skip
    first = (folder / "object-0.html").read_text()
    assert "--target green" in first
    assert "green where it is predicted" in first


def test_the_index_says_that_a_large_picture_is_shown_reduced(folder, library, tmp_path):
    reduced = "and is shown at 1100"
    assert reduced not in (folder / "index.html").read_text()
    with Image.open(picture(tmp_path / "small.png", blue=False)) as small:
        small.resize((1200, 900), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    index = make_object_pages(Segmenter(), tmp_path / "large.png", library, tmp_path / "pages")
    text = index.read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"The picture has 1200 × 900 pixels {reduced} × 825. All numbers refer to the full size." in text
    assert 'id="atlas-whole"' in (index.parent / "object-0.html").read_text()


def test_the_index_leads_to_each_object_by_mouse_and_keyboard(browser, folder):
    browser.open(folder / "index.html")
    assert browser.run("document.querySelector('h1').textContent") == "2 objects in colours.png"
    assert "1 more class is predicted in less than 0.2" in browser.run("document.querySelector('.head').textContent")
    # the numbers stand on their objects, and lead to their pages
    spots = browser.run(
        "[...document.querySelectorAll('.tag')].map(e => { const all = e.parentElement.getBoundingClientRect(),"
        "box = e.getBoundingClientRect(); return [e.getAttribute('href'), (box.left - all.left) / all.width * 40,"
        "(box.top - all.top) / all.height * 30]})"
    )
    assert [page for page, *_ in spots] == ["object-0.html", "object-1.html"]
    (_, x, y), (_, u, v) = spots
    assert 20 <= x < 35 and 5 <= y < 25 and 2 <= u < 12 and 2 <= v < 12  # noqa: PT018
    browser.press("Tab")
    browser.press("Tab")
    assert browser.run("document.activeElement.getAttribute('aria-label')") == "Object 0: green"
    browser.click(".object:nth-child(2) .face")
    wait_for(browser, "object-1.html")
    assert "red where it is predicted" in browser.run("document.querySelector('h1').textContent")
    browser.click(".crumbs a")
    wait_for(browser, "index.html")
    assert browser.complaints == []


def test_axe_finds_no_fault_on_the_index(browser, folder):
    browser.open(folder / "index.html", width=400)
    for width in (400, 1300):
        browser.resize(width, 900)
        assert browser.run("document.documentElement.scrollWidth") <= width
        for dark in (False, True):
            browser.media(dark=dark)
            assert faults(browser, COLOURS if dark else None) == [], (width, dark)


def test_objects_are_explained_by_what_is_predicted(library, tmp_path):
    found = explain_objects(Segmenter(), picture(tmp_path / "c.png", blue=False), library, graph=False, effects=False)
    assert (found.count, found.left_out) == (2, 0)
    green, red = found.explained
    assert [each.class_name for each in (green, red)] == ["green", "red"]
    expected = np.zeros((30, 40), bool)
    expected[5:25, 20:35] = True
    np.testing.assert_array_equal(green.explanation.place.mask, expected)
    assert green.explanation.target.value == pytest.approx(300)
    assert green.found.part == pytest.approx(0.25)


def test_a_concept_is_removed_where_its_class_was_predicted(library, tmp_path):
    """Without it the class is predicted nowhere; what is left of its logits is measured at the same pixels."""
    model = Segmenter()
    model.head.weight.data[2, 0] = -0.25  # green is less where red is
    model.head.weight.data[2, 2] = 0.5
    Image.new("RGB", (40, 30), (0, 255, 102)).save(tmp_path / "c.png")
    ready = crp.mine(
        model, [torch.rand(3, 30, 40)], layers=["conv"], path=tmp_path / "a.crp", targets=ClassInMask(2),
        class_names=NAMES, preprocessing=crp.Preprocessing(), k=1, patches=0, progress=False,
    )  # fmt: skip
    found = crp.explain(model, tmp_path / "c.png", ready, target="green", graph=False)
    effect = {part.concept: part.effect for part in found.layers[0].ranked}
    assert found.target.name == "green where it is predicted"
    assert found.target.value == pytest.approx(1200 * 1.2, rel=1e-5)
    # without channel 1, green is half of blue at all 1,200 pixels, and less than the background
    assert effect[1].after == pytest.approx(1200 * 0.2, rel=1e-5)


def test_pages_of_an_earlier_call_are_replaced(library, tmp_path):
    image = picture(tmp_path / "c.png")
    (tmp_path / "pages").mkdir()
    for name in ("object-7.html", "object-mine.html"):
        (tmp_path / "pages" / name).write_text("old")
    make_object_pages(Segmenter(), image, library, tmp_path / "pages", graph=False, effects=False)
    assert not (tmp_path / "pages" / "object-7.html").exists()
    assert (tmp_path / "pages" / "object-mine.html").read_text() == "old"


def test_a_picture_without_objects_and_a_classifier_are_said(library, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "dark.png")
    with pytest.raises(InputError, match=r"^The model finds no object in this picture: it predicts nothing but backgr"):
        make_object_pages(Segmenter(), tmp_path / "dark.png", library, tmp_path / "out")
    classifier = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InputError, match=r"^Objects are boxes of a detector, or classes of a segmentation \[N, cla"):
        explain_objects(classifier, tmp_path / "dark.png", library)


def test_objects_and_other_questions_exclude_one_another(library):
    done = CliRunner().invoke(main, ["atlas", str(library.path), "a.png", "--objects", "--box", "1"])
    assert done.exit_code == 2
    assert "--objects explains every object of single pictures" in done.output


def test_concepts_of_context_over_pictures(library, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        picture(pictures / f"{number}.png", blue=False)
    Image.new("RGB", (40, 30)).save(pictures / "dark.png")  # without an object
    words = ["context", str(library.path), str(pictures), "--model", f"{__file__}:Segmenter"]
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "context.csv")])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "context.csv").read_text().splitlines()))
    assert [(row["class_name"], row["concept"], row["objects"], row["of"]) for row in rows] == [
        ("red", "0", "3", "3"), ("green", "1", "3", "3"),
    ]  # fmt: skip
    assert {row["context"] for row in rows} == {"0.0"}
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[1].split() == [
        "red", "conv", "0", "3", "of", "3", "100.0%", "0.0%", "±", "0.0%",
    ]  # fmt: skip


def test_context_leaves_out_pictures_that_cannot_be_read_and_names_them(library, tmp_path):
    words, names = ["context", str(library.path), "--model", f"{__file__}:Segmenter"], ["0.png", "no.png", "1.png"]
    files = [str(tmp_path / name) for name in names]
    for file in files[::2]:
        picture(Path(file), blue=False)
    Path(files[1]).write_text("not a picture")
    whole = CliRunner().invoke(main, [*words, files[0], files[2]])
    done = CliRunner().invoke(main, [*words, *files])
    fact = f"'{files[1]}' is not a picture: it is a text that begins with 'not a picture'."
    assert (whole.exit_code, done.exit_code) == (0, 2)
    assert done.stdout == whole.stdout
    assert "2 of 2" in whole.stdout
    assert done.stderr == f"Error: 1 of 3 pictures could not be measured and are not counted: {fact}\n"
    out = str(tmp_path / "context.csv")
    done = CliRunner().invoke(main, [*words, *files, "--out", out])
    assert done.stderr == f"Error: 1 of 3 pictures could not be measured and are not in '{out}': {fact}\n"
    assert len(Path(out).read_text().splitlines()) == 3
    done = CliRunner().invoke(main, [*words, *[files[1]] * 4])
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"Error: {fact}\n")


def test_context_leaves_out_a_picture_one_object_of_which_cannot_be_explained(library, tmp_path, monkeypatch):
    """None of its objects counts, and those of the others are kept."""
    own, calls = object_contexts._measured, []

    def measured(*given):
        calls.append(given)
        if len(calls) == 4:  # the second object of the second picture
            raise ModelError("A concept of 'conv' cannot be explained.")
        return own(*given)

    words, files = ["context", str(library.path), "--model", f"{__file__}:Segmenter"], []
    for name in ("0.png", "1.png", "2.png"):
        files.append(str(tmp_path / name))
        picture(Path(files[-1]), blue=False)
    whole = CliRunner().invoke(main, [*words, files[0], files[2]])
    monkeypatch.setattr(object_contexts, "_measured", measured)
    done = CliRunner().invoke(main, [*words, *files])
    assert len(calls) == 6
    assert (done.exit_code, done.stdout) == (2, whole.stdout)
    assert done.stderr == (
        f"Error: 1 of 3 pictures could not be measured and are not counted: '{files[1]}': A concept of 'conv' cannot "
        "be explained.\n"
    )
