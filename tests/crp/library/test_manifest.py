import json

import pytest

from crp.errors import LibraryError
from crp.library.manifest import layer_folder, read_manifest, write_manifest

from .conftest import manifest


def test_written_and_read(tmp_path):
    write_manifest(tmp_path, manifest())
    assert read_manifest(tmp_path) == {"format": "crp-atlas library", "schema": 2, **manifest()}
    text = (tmp_path / "manifest.json").read_text()
    assert text.endswith("}\n")
    assert "<owl>" in text


def test_keys_are_sorted_so_that_equal_content_is_equal_bytes(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, content in ((first, manifest()), (second, dict(reversed(manifest().items())))):
        folder.mkdir()
        write_manifest(folder, content)
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()


def test_no_library(tmp_path):
    with pytest.raises(LibraryError) as caught:
        read_manifest(tmp_path / "none")
    assert str(caught.value) == f"There is no library '{tmp_path / 'none'}': the folder does not exist."
    with pytest.raises(LibraryError) as caught:
        read_manifest(tmp_path)
    assert str(caught.value) == f"'{tmp_path}' is not a library: it holds no manifest.json."


def known() -> dict:
    return {"least": 0.0, "greatest": 1.0, "shape": [2], "values": [1.0, 2.0], "tolerance": 1e-3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "else"}, "does not describe a library: its \"format\" is not 'crp-atlas library'."),
        ({"schema": 3}, "is of schema 3, and this version of crp-atlas reads schema 2."),
        ({"layers": None}, "is damaged ('layers' is missing or not of type list): "),
        ({"layers": [{"name": "..", "shape": [1], "concepts": 1}]}, "does not describe a layer): "),
        ({"layers": [{"name": "a", "shape": [0], "concepts": 1}]}, "does not describe a layer): "),
        (
            {"settings": manifest()["settings"] | {"k": "16"}},
            "is damaged ('k' of 'settings' is missing or not an int): ",
        ),
        ({"settings": manifest()["settings"] | {"k": 0}}, "is damaged ('k' of 'settings' is 0): "),
        *(
            ({"model": {"weights": "", "known_outputs": known() | wrong}}, "not hold outputs for a test pattern): ")
            for wrong in (
                {"values": [0.0, 0.0]},
                {"values": [1.0]},
                {"values": [1.0, "2"]},
                {"shape": [2, -1]},
                {"least": 2.0},
                {"tolerance": 0.0},
                {"omitted": 1},
            )
        ),
        ({"model": {"weights": "", "known_outputs": []}}, "does not hold outputs for a test pattern): "),
        ({"model": {}}, "is damaged ('model' has no 'weights'): "),
        ({"class_names": ["cat"]}, "is damaged (there are 1 'class_names' for 4 classes): "),
        ({"layers": manifest()["layers"] * 2}, "is damaged (a layer is listed twice): "),
        ({"layers": [{"name": "a" * 256, "shape": [1], "concepts": 1}]}, "does not describe a layer): "),
        (
            {"data": {"length": 9, "fingerprint": "", "shape": [3, -1]}},
            "('shape' of 'data' is missing or not a shape): ",
        ),
        ({"source": "\ud800"}, "is damaged (not JSON: "),
        ({"source": float("nan")}, "is damaged (not JSON: a number is infinite or NaN): "),
    ],
)
def test_manifests_that_are_refused(tmp_path, change, message):
    write_manifest(tmp_path, manifest())
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(LibraryError) as caught:
        read_manifest(tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"'{file}' ")


@pytest.mark.parametrize("name", ["features.3", "block/one", "a\\b", "ünit", "a b", "%2F"])
def test_folders_of_layers_hold_no_separator(name):
    assert not set(layer_folder(name)) & set("/\\ ")
    assert layer_folder(name).isascii()
