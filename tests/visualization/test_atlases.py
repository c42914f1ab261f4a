import json
import os
import sys
import types

import pytest

import example_explanations as examples
from crp.errors import InputError
from crp.explanations import from_json, numbers, to_json
from crp.visualization import Atlas, atlas, wording
from page_source import numbers_in, numbers_of_a_page


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def value():
    return Atlas(examples.explanation(layers=("conv",), patches=2, supporting=2, opposing=1))


@pytest.fixture(scope="module")
def saved(value, tmp_path_factory):
    """The bytes of the atlas in each format, saved once; its names end in lower case."""
    folder = tmp_path_factory.mktemp("saved")
    suffixes = ("png", "pdf", "svg", "html", "json")
    return {suffix: value.save(folder / f"atlas.{suffix}").read_bytes() for suffix in suffixes}


@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        ("png", b"\x89PNG"),
        ("pdf", b"%PDF"),
        ("svg", b"<?xml"),
        ("html", b"<!doctype html>"),
        ("json", b"{"),
    ],
)
def test_the_suffix_names_the_format(saved, suffix, start):
    assert saved[suffix].startswith(start)


def test_a_suffix_in_upper_case_is_the_same_and_nothing_else_is_written(tmp_path, value):
    path = value.save(tmp_path / "atlas.HTML")
    assert path.read_bytes().startswith(b"<!doctype html>")
    assert os.listdir(tmp_path) == ["atlas.HTML"]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg", "html", "json"])
def test_the_same_numbers_give_the_same_file(tmp_path, value, saved, suffix):
    assert value.save(tmp_path / f"again.{suffix}").read_bytes() == saved[suffix]


def test_json_and_page_hold_the_same_numbers(tmp_path, value):
    content = json.loads(value.save(str(tmp_path / "atlas.json")).read_text())
    assert to_json(from_json(content)) == content
    page = value.save(tmp_path / "atlas.html").read_text("utf-8")
    embedded = numbers_in(page)
    assert {name: entry for name, entry in content.items() if name != "arrays"} == numbers(value.explanation)
    assert embedded == numbers_of_a_page(numbers(value.explanation))


def test_texts_of_the_svg_are_text(saved):
    assert "The model sees zebra" in saved["svg"].decode()


def refused(value, path, message):
    with pytest.raises(InputError) as error:
        value.save(path)
    assert str(error.value) == message


def test_other_suffixes_are_refused(tmp_path, value):
    allowed = "'.html', '.png', '.pdf', '.svg', '.json', '.csv', '.dot'"
    refused(
        value,
        tmp_path / "atlas.gif",
        f"{str(tmp_path / 'atlas.gif')!r}: an atlas is saved as {allowed}, not as '.gif'.",
    )
    refused(value, tmp_path / "atlas", f"{str(tmp_path / 'atlas')!r}: an atlas is saved as {allowed}, not as ''.")
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_refused(tmp_path, value):
    path = tmp_path / "nowhere" / "atlas.html"
    refused(value, path, f"{str(path)!r}: the folder {str(path.parent)!r} does not exist.")


def test_a_folder_is_no_file(tmp_path, value):
    (tmp_path / "atlas.html").mkdir()
    refused(
        value, tmp_path / "atlas.html", f"{str(tmp_path / 'atlas.html')!r} is a folder; an atlas is saved as a file."
    )


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_what_cannot_be_written_is_refused(tmp_path, value, monkeypatch, error):
    def failing(*arguments):
        raise error

    # Not by taking away rights: who runs tests as root has them all.
    monkeypatch.setattr("crp.files.open", failing, raising=False)
    refused(value, tmp_path / "atlas.html", f"{str(tmp_path / 'atlas.html')!r} cannot be written: {error.strerror}.")
    assert os.listdir(tmp_path) == []


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, value, monkeypatch):
    path = tmp_path / "atlas.html"
    path.write_text("old")
    monkeypatch.setattr(Atlas, "html", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        value.save(path)
    assert os.listdir(tmp_path) == ["atlas.html"]
    assert path.read_text() == "old"


def test_names_that_are_no_text_are_saved_with_a_mark(tmp_path):
    strange = Atlas(examples.explanation(layers=(), image="caf\udce9.jpg"))
    assert b"caf?.jpg" in strange.save(tmp_path / "atlas.html").read_bytes()
    assert json.loads(strange.save(tmp_path / "atlas.json").read_bytes())["provenance"]["image"] == "caf\udce9.jpg"
    strange.save(tmp_path / "atlas.png")


def test_a_notebook_shows_the_page_in_a_frame(value):
    frame = value._repr_html_()
    assert frame.startswith("<iframe ")
    assert frame.count("<") == 2  # everything of the page is escaped
    assert "The model sees" in frame


def test_repr_says_class_concepts_and_rest(value):
    lines = plain(repr(value)).splitlines()
    assert lines[0] == "Atlas: The model sees zebra (90 %)"
    best = value.explanation.layers[0].ranked[0]
    assert lines[1].startswith(f"  conv: {best.concept} {plain(wording.signed_percent(best.share))}, ")
    assert lines[1].endswith("%)")


def test_atlas_draws_what_explain_returns(monkeypatch, value):
    calls = []

    def explain(*arguments, **options):
        calls.append((arguments, options))
        return value.explanation

    module = types.ModuleType("crp.explanations.computation")
    module.explain = explain
    monkeypatch.setitem(sys.modules, "crp.explanations.computation", module)
    drawn = atlas("model", "image", "library", concepts=3)
    assert drawn.explanation is value.explanation
    assert calls == [(("model", "image", "library"), {"concepts": 3})]
