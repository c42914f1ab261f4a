import json
import random

import numpy as np
import pytest
import torch

from crp.errors import CrpError, InputError, LibraryError
from crp.library import open_library
from crp.library.fingerprints import weights_fingerprint
from crp.library.summary import model_name
from crp.preprocessing import Preprocessing
from crp.same_model import check_model

from .conftest import manifest, references


def test_what_was_written_is_read(folder):
    library = open_library(str(folder))
    assert library.path == folder
    assert library.layers == ("features.3", "block/one")
    assert library.shape("features.3") == (2, 4, 5)
    assert library.class_names == ("cat", "dog", "<owl>", "newt")
    assert library.preprocessing == Preprocessing(size=8, mean=0.5)
    for mode in ("relevance", "activation"):
        found, written = library.references("block/one", mode), references(3)
        for name in ("sample", "score", "target", "position"):
            assert np.array_equal(getattr(found, name), written[f"{mode}.{name}"])
    statistics = library.statistics("features.3")
    assert statistics.share.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert statistics.activation_variance.tolist() == [[0, 0.25], [0.5, 0.75], [1, 1.25], [1.5, 1.75]]
    assert statistics.among_top.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert statistics.count.tolist() == [0, 1, 2, 3]
    assert library.with_patches("features.3") == [0, 1]
    assert library.with_patches("block/one") == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (None, "Net"),
        ({"model": "torchvision:resnet18"}, "torchvision:resnet18"),
        ({"model": "/home/ann/nets/net.py:make"}, "net.py:make"),
        ({"model": "hf:/home/ann/vit/"}, "vit"),
        ({"model": 3}, "Net"),
        ("damaged", "Net"),
    ],
)
def test_a_model_is_called_as_it_was_for_mining(source, name):
    assert model_name({**manifest(), "source": source}) == name


def test_patches(folder):
    library = open_library(folder)
    (patch,) = library.patches("features.3", 1, "relevance")
    assert (patch.sample, patch.score, patch.target, patch.target_name) == (6, 1.5, 2, "<owl>")
    assert patch.position == (1, 2)
    assert patch.box == (1, 2, 4, 4)
    assert patch.picture.tolist() == [[[60] * 3] * 2] * 3
    np.testing.assert_allclose(patch.heatmap, np.linspace(-1, 1, 6).reshape(3, 2), atol=1 / 127)
    assert library.patches("features.3", 0, "relevance") == ()
    assert library.patches("block/one", 2, "activation") == ()


NO_CONCEPT = "There is no concept {}: layer 'features.3' has the concepts 0 to 1."
ABSENT = [
    (("features.4", 0, "relevance"), "The library does not hold layer 'features.4': did you mean 'features.3'?"),
    (("fc", 0, "relevance"), "The library does not hold layer 'fc': there are 'features.3', 'block/one'."),
    (("features.3", 0, "relevances"), "There is no mode 'relevances': did you mean 'relevance'?"),
    (("features.3", 9999, "relevance"), NO_CONCEPT.format(9999)),
    (("features.3", -3, "relevance"), NO_CONCEPT.format(-3)),
]


@pytest.mark.parametrize(("asked", "message"), ABSENT)
def test_what_is_not_there(folder, asked, message):
    library = open_library(folder)
    with pytest.raises(InputError) as caught:
        library.patches(*asked)
    assert str(caught.value) == message
    if "concept" not in message:
        with pytest.raises(InputError) as caught:
            library.references(asked[0], asked[2])
        assert str(caught.value) == message


def test_another_model_is_refused(folder):
    net = torch.nn.Linear(2, 1)
    with pytest.raises(LibraryError) as caught:
        check_model(open_library(folder), net)
    assert str(caught.value) == (
        f"The library '{folder}' was mined with other weights (abababababab, and this model has "
        f"{weights_fingerprint(net)[:12]}): use the model it was mined with, or mine a library for this one."
    )
    content = manifest()
    content["model"]["weights"] = weights_fingerprint(net)
    content |= {"format": "crp-atlas library", "schema": 2}
    (folder / "manifest.json").write_text(json.dumps(content))
    check_model(open_library(folder), net)


def test_both_faces_tell_the_same_facts(folder):
    library = open_library(folder)
    page = library._repr_html_().replace("&#x27;", "'").replace("&lt;", "<").replace("&gt;", ">")
    for word, value in library.facts():
        assert f"{word}" in repr(library)
        assert value in repr(library)
        assert f"<th>{word}</th><td>{value}</td>" in page


def read_all(folder) -> None:
    library = open_library(folder)
    for layer in library.layers:
        library.statistics(layer)
        for mode in ("relevance", "activation"):
            library.references(layer, mode)
            for concept in range(library.shape(layer)[0]):
                library.patches(layer, concept, mode)


FILES = ["manifest.json"] + [
    f"layers/features.3/{table}.safetensors" for table in ("references", "statistics", "patches")
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 7, 60, -1])
def test_truncated_files(folder, name, keep):
    file = folder / name
    content = file.read_bytes()
    # the manifest's last byte is the end of a line, which nobody misses
    file.write_bytes(content[: keep if keep >= 0 else len(content) - 2])
    with pytest.raises(LibraryError) as caught:
        read_all(folder)
    assert str(caught.value).startswith(f"'{file}' is damaged (")
    assert str(caught.value).endswith("): mine the library again, or restore the file from a copy.")


@pytest.mark.parametrize("name", FILES)
def test_missing_files(folder, name):
    (folder / name).unlink()
    with pytest.raises(LibraryError, match=r"(is missing|is not a library)"):
        open_library(folder)


@pytest.mark.parametrize("name", FILES)
def test_garbled_files_are_read_or_refused_and_nothing_else(folder, name):
    file = folder / name
    content = file.read_bytes()
    dice = random.Random(0)
    refused = 0
    for _ in range(150):
        garbled = bytearray(content)
        for _ in range(dice.choice([1, 1, 8])):
            garbled[dice.randrange(len(garbled))] = dice.randrange(256)
        file.write_bytes(garbled)
        try:
            read_all(folder)
        except CrpError:
            refused += 1
    assert refused > 20
    file.write_bytes(content)
    read_all(folder)
