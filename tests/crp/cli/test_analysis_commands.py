"""`crp classes`, `crp search` and `crp strategies` say what the library's own calls return."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from crp.analysis import search, suspects
from crp.cli import main
from crp.demo import Scenes
from crp.library import Library
from crp.mining import mine


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Library:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    dataset = TensorDataset(torch.randn(50, 3, 8, 8), torch.arange(50) % 2)
    path = tmp_path_factory.mktemp("mined") / "a.crp"
    options = {"vectors": True, "patches": 0, "progress": False, "class_names": ["ant", "bee"]}
    return mine(model, dataset, layers=["0"], path=path, **options)


def rows(library: Library, command: str, *options: str) -> list[list[str]]:
    """Words of each line after the first."""
    result = CliRunner().invoke(main, [command, str(library.path), "0", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()[1:]]


def test_classes_of_a_concept_and_concepts_of_a_class(library, tmp_path):
    found = rows(library, "classes", "--class", "bee", "--count", "3", "--plot", str(tmp_path / "bee.svg"))
    expected = library.concepts_of("bee", "0", count=3)
    assert [(row[0], int(row[1]), row[2]) for row in found[:3]] == [
        ("bee", use.concept, f"{use.share:+.2%}") for use in expected
    ]
    assert found[3] == ["Plot:", str(tmp_path / "bee.svg")]
    assert "concept" in (tmp_path / "bee.svg").read_text()
    found = rows(library, "classes", "--concept", "2", "--order", "activation")
    assert [row[0] for row in found] == [use.target_name for use in library.classes_of("0", 2, order="activation")]


def test_either_a_class_or_a_concept_is_asked_for(library):
    for options in ([], ["--class", "0", "--concept", "1"]):
        result = CliRunner().invoke(main, ["classes", str(library.path), "0", *options])
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, "Error: Give either --class or --concept.")


def test_search(library):
    found = search(library.vectors("0"), 1, prediction=1, count=4)
    assert [int(row[0]) for row in rows(library, "search", "1", "--prediction", "bee", "--count", "4")] == (
        found.sample.tolist()
    )
    (first, *_) = rows(library, "search", "1", "--by", "activation", "--class", "ant")
    strongest = np.argmax(np.where(np.arange(50) % 2, -np.inf, library.vectors("0").activation.column(1)))
    assert (int(first[0]), first[2], first[4]) == (strongest, "ant", "ant")


def test_search_names_the_files_of_a_folder_that_is_still_there(tmp_path):
    scenes = Scenes("test", 4)
    (tmp_path / "photos").mkdir()
    for number, name in enumerate("dcba"):
        picture = Image.fromarray(scenes.preprocessing.to_picture(scenes[number][0]))
        picture.save(tmp_path / "photos" / f"{name} {number}.png")
    path = tmp_path / "a.crp"
    made = ["mine", "demo", str(tmp_path / "photos"), "--layers", "conv5", "--vectors", "--patches", "0"]
    assert CliRunner().invoke(main, [*made, "--out", str(path)], catch_exceptions=False).exit_code == 0

    def lines() -> list[str]:
        found = CliRunner().invoke(main, ["search", str(path), "conv5", "37"], catch_exceptions=False)
        return found.stdout.splitlines()

    files = sorted(file.name for file in (tmp_path / "photos").iterdir())
    assert lines()[0].split()[-2:] == ["label", "name"]
    assert [line.endswith(f"none {' ' * 15} {files[int(line.split()[0])]}") for line in lines()[1:]] == [True] * 4
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert [line.split()[-1] for line in lines()] == ["label", *["none"] * 4]


def test_a_concept_or_class_that_is_not_there(library):
    for options, message in [
        (["7"], "Error: There is no concept 7: layer '0' has the concepts 0 to 3."),
        (["1", "--label", "be"], "Error: There is no class 'be': did you mean 'bee'?"),
    ]:
        result = CliRunner().invoke(main, ["search", str(library.path), "0", *options])
        assert (result.exit_code, result.stderr.strip()) == (2, message)


def test_strategies(library):
    pytest.importorskip("sklearn", reason="scikit-learn, an optional extra, is not installed")
    first = suspects(library.vectors("0"), targets=[1], clusters=2)[0]
    (row, *_) = rows(library, "strategies", "--class", "bee", "--clusters", "2")
    assert row[:5] == ["bee", str(len(first.samples)), "of", "25", str(first.concept)]
    assert [int(word) for word in row[7:]] == first.samples[:4].tolist()
