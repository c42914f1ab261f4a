"""How logits become probabilities: the caller says it, or the model's end, or the library; pages show which it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import crp
from crp import InputError, LibraryError
from crp.cli import main
from crp.errors import shortened
from crp.explanations.explanation import Explanation
from crp.explanations.serialisation import from_json, to_json
from crp.visualization import wording

MULTI_HOT = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]]).repeat(5, 1)
ONE_HOT = torch.eye(4).repeat(5, 1)


def network(*after: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
        found = nn.Sequential(*layers, *after)
        found[4].weight.data.mul_(8)
    return found.eval()


@pytest.fixture(scope="module")
def data() -> Tensor:
    return torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def mined(path: Path, data: Tensor, labels: Tensor, model: nn.Module | None = None, **options: object) -> crp.Library:
    return crp.mine(model or network(), TensorDataset(data, labels), layers=["1"], path=path, patches=0, progress=False,
                    targets="prediction", **options)  # fmt: skip


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, data: Tensor) -> crp.Library:
    return mined(tmp_path_factory.mktemp("several") / "a.crp", data, MULTI_HOT)


def explained(library: crp.Library, data: Tensor, model: object = None) -> Explanation:
    return crp.explain(network() if model is None else model, data[0], library, graph=False)


def check(found: Explanation, data: Tensor, way: str) -> None:
    """Compare every probability with that of a live run."""
    logits = network()(data[:1])[0].detach().double()
    expected = logits.sigmoid() if way == "sigmoid" else logits.softmax(0)
    assert found.probabilities == way
    for score in found.classes:
        assert score.probability == pytest.approx(float(expected[score.index]), abs=1e-6)
    (layer,) = found.layers
    assert layer.ablations.independent == (way == "sigmoid")
    for part in layer.ranked:
        model = network()
        model[1].register_forward_hook(lambda _, given, out, c=part.concept: out.index_fill(1, torch.tensor([c]), 0))
        without = model(data[:1])[0].detach().double()
        after = without.sigmoid() if way == "sigmoid" else without.softmax(0)
        assert part.effect.probability == pytest.approx(float(after[found.target.index]), abs=1e-6)


def test_data_with_several_labels_have_a_probability_for_each_class(several: crp.Library, data: Tensor) -> None:
    assert several.manifest["probabilities"] == "sigmoid"
    found = explained(several, data)
    check(found, data, "sigmoid")
    assert wording.classes_title(found) == "Class probabilities, each on its own (sigmoid)"
    again = from_json(json.loads(json.dumps(to_json(found))))
    assert again.probabilities == "sigmoid"


@pytest.mark.parametrize("labels", [ONE_HOT, torch.arange(20) % 4])
def test_data_with_one_label_each_have_a_softmax(tmp_path: Path, data: Tensor, labels: Tensor) -> None:
    library = mined(tmp_path / "a.crp", data, labels)
    assert "probabilities" not in library.manifest
    found = explained(library, data)
    check(found, data, "softmax")
    assert wording.classes_title(found) == "Class probabilities (softmax)"
    ready = crp.prepared(network(), library=library, probabilities="sigmoid")
    check(explained(library, data, ready), data, "sigmoid")


def test_the_caller_decides_before_the_labels(tmp_path: Path, data: Tensor, several: crp.Library) -> None:
    ready = crp.prepared(network(), library=several, probabilities="softmax")
    check(explained(several, data, ready), data, "softmax")
    told = mined(tmp_path / "a.crp", data, MULTI_HOT, probabilities="softmax")
    check(explained(told, data), data, "softmax")


def test_the_end_of_the_model_decides_before_the_labels(tmp_path: Path, data: Tensor) -> None:
    for end, way in ((nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid")):
        labels = MULTI_HOT if way == "softmax" else ONE_HOT
        library = mined(tmp_path / f"{way}.crp", data, labels, network(end))
        check(explained(library, data, network(end)), data, way)


def test_shards_keep_what_was_said(tmp_path: Path, data: Tensor) -> None:
    for shard in ((1, 2), (2, 2)):
        mined(tmp_path / "a.crp", data, MULTI_HOT, probabilities="softmax", shard=shard, block_size=10)
    library = crp.merge(network(), TensorDataset(data, MULTI_HOT), path=tmp_path / "a.crp", progress=False)
    assert library.manifest["probabilities"] == "softmax"


def test_other_words_are_refused(tmp_path: Path, data: Tensor, several: crp.Library) -> None:
    sentence = "probabilities is 'sigmoids': it is 'softmax' (a sample has one class), 'sigmoid' (it may have several)"
    with pytest.raises(InputError) as error:
        crp.prepared(network(), probabilities="sigmoids")
    assert sentence in str(error.value)
    with pytest.raises(InputError) as error:
        mined(tmp_path / "a.crp", data, ONE_HOT, probabilities="sigmoids")
    assert sentence in str(error.value)
    library = mined(tmp_path / "b.crp", data, MULTI_HOT)
    manifest = library.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"sigmoid"', '"sigmoids"'), encoding="utf-8")
    with pytest.raises(LibraryError, match=f"'probabilities' is {shortened('sigmoids')}"):
        crp.open_library(library.path)


def test_commands_say_it_and_pages_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("subject_of_probabilities.py").write_text(
        "from tests.crp.explanations.test_probabilities import network as model\n", encoding="utf-8"
    )
    for name in "abcd":
        Path("pictures", name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (60 * number, 40, 50 * (ord(name) - 96))).save(f"pictures/{name}/{number}.png")

    def run(*words: str) -> None:
        done = CliRunner().invoke(main, list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output

    mine = ("mine", "subject_of_probabilities.py:model", "pictures", "--layers", "1", "--size", "8", "--out")
    run(*mine, "a.crp")
    run(*mine, "b.crp", "--probabilities", "sigmoid")
    page = {}
    for out, library, more in (("1", "a.crp", ()), ("2", "a.crp", ("--probabilities", "sigmoid")), ("3", "b.crp", ())):
        run("atlas", library, "pictures/a/0.png", "--out", f"{out}.html", "--no-graph", "--trust", *more)
        page[out] = Path(f"{out}.html").read_text(encoding="utf-8")
    assert "Class probabilities (softmax)" in page["1"]
    assert "Class probabilities, each on its own (sigmoid)" in page["2"]
    assert "Class probabilities, each on its own (sigmoid)" in page["3"]
    assert "--probabilities sigmoid" in page["2"]
