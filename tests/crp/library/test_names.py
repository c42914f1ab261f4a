"""Names of concepts: what is stored, what survives mining again, and which names are refused because another concept
now has the number."""

from __future__ import annotations

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import crp
from crp.concepts import PositionConcept
from crp.errors import InputError, LibraryError
from crp.library import GivenName, Library, read_names
from crp.library.given_names import merged
from crp.library.summary import described_in_words

N = 24


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))


def data(seed: int = 0) -> list[tuple[torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(3, 8, 8, generator=generator), index % 3) for index in range(N)]


def mined(path: Path, model: nn.Module | None = None, *, seed: int = 0, **options: object) -> Library:
    given = {"layers": ["0", "2"], "patches": 0, "k": 4, "progress": False, **options}
    return crp.mine(model or net(), data(seed), path=path, **given)


def permuted(model: nn.Sequential, order: list[int]) -> nn.Sequential:
    """The same function with the channels of the first convolution in another order."""
    copy = deepcopy(model)
    with torch.no_grad():
        copy[0].weight[:], copy[0].bias[:] = model[0].weight[order], model[0].bias[order]
        copy[2].weight[:] = model[2].weight[:, order]
    return copy


def moved(library: Library, path: Path) -> Library:
    """Put the names of a library beside another one's tables."""
    (path / "names.json").write_bytes((library.path / "names.json").read_bytes())
    return crp.open_library(path)


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mined(tmp_path_factory.mktemp("unnamed") / "a.crp").path


@pytest.fixture
def named(unnamed: Path, tmp_path: Path) -> Library:
    library = crp.open_library(shutil.copytree(unnamed, tmp_path / "a.crp"))
    library.give_name("0/1", "edge", note="left to right", tags=["low", "low", " thin "], author="Ann")
    library.give_name("0/4", "blob")
    library.give_name("2/3", "corner", verdict="artefact")
    return library


def test_a_name_is_stored_and_shown_first(named: Library) -> None:
    again = crp.open_library(named.path)
    assert again.names == named.names == {
        "0": ("", "edge", "", "", "blob", ""), "2": ("", "", "", "corner", "", "")
    }  # fmt: skip
    name = again.given_names()["0", 1]
    assert (name.label, name.note, name.tags, name.author) == ("edge", "left to right", ("low", "thin"), "Ann")
    assert again.given_names()["2", 3].verdict == "artefact"
    assert repr(again.concept("0", 1)).startswith("<concept 1 (edge) of 0")
    assert "names of 0: 'edge' (1), 'blob' (4)\nnames of 2: 'corner' (3)\n" in described_in_words(again)
    assert again.concepts_of(0, "0")[0].concept_name == again.concept_name("0", again.concepts_of(0, "0")[0].concept)


def test_what_is_not_said_again_stays_and_an_empty_label_removes(named: Library) -> None:
    named.give_name("0/1", tags=["other"])
    name = named.given_names()["0", 1]
    assert (name.label, name.note, name.tags) == ("edge", "left to right", ("other",))
    named.give_name("0/4", "")
    assert ("0", 4) not in named.given_names()
    assert named.names["0"] == ("", "edge", "", "", "", "")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"label": "x" * 121}, "The label of a name has at most 120 characters, given 121."),
        ({"verdict": "artifact"}, "There is no verdict 'artifact': did you mean 'artefact'?"),
        ({"tags": "one"}, "Tags are a list of at most 40 texts, given 'one'."),
        ({"note": 3}, "The note of a name is a text, given 3."),
    ],
)
def test_what_is_no_name_is_refused(named: Library, given: dict, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        named.give_name("0/0", **given)
    assert str(refused.value) == sentence


def test_hostile_text_is_one_line_of_text(named: Library) -> None:
    named.give_name("0/0", "<script>alert(1)</script>\n\u202eend\ud800")
    assert crp.open_library(named.path).names["0"][0] == "<script>alert(1)</script> \u202eend?"


# -- mining again


@pytest.mark.parametrize("other", [{"k": 3, "block_size": 5}, {"vectors": True, "layers": ["2", "0"]}, {"k": 12}])
def test_names_survive_mining_again(named: Library, other: dict) -> None:
    before = named.given_names()
    again = mined(named.path, overwrite=True, **other)
    assert again.given_names() == before
    assert again.refused_names() == {}
    assert crp.verify(again).sound


def test_names_survive_other_data_of_the_same_model(named: Library) -> None:
    assert mined(named.path, seed=7, overwrite=True).names["0"] == named.names["0"]


def test_names_go_along_when_a_library_is_extended(named: Library, tmp_path: Path) -> None:
    longer = crp.mine(
        net(), data() + data(1), layers=["0", "2"], path=tmp_path / "b.crp", patches=0, k=4, extend=named.path,
        progress=False,
    )  # fmt: skip
    assert longer.names == named.names


def test_names_of_a_layer_survive_if_only_later_layers_were_trained_again(named: Library, tmp_path: Path) -> None:
    model = net()
    with torch.no_grad():
        model[5].weight += 0.1 * torch.randn(3, 96)
    again = moved(named, mined(tmp_path / "b.crp", model).path)
    assert again.names == named.names
    assert again.refused_names() == {}


def test_permuted_channels_refuse_the_names_that_moved(
    named: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order = [0, 2, 1, 3, 4, 5]  # what was channel 1 is channel 2 now; 4 stayed
    model = permuted(net(), order)
    inputs = torch.stack([sample for sample, _ in data()])
    torch.testing.assert_close(model(inputs), net()(inputs))
    again = moved(named, mined(tmp_path / "b.crp", model).path)
    with caplog.at_level(logging.WARNING, "crp"):
        assert again.names["0"] == ("", "", "", "", "blob", "")
    assert again.names["2"] == named.names["2"]
    reason = "the model has other weights, and the named concept now has the number 2"
    assert again.refused_names() == {"0/1": reason}
    sentence = f"1 of 3 names in '{again.path}/names.json' was given to other concepts and not used: 0/1 ({reason})."
    assert [record.getMessage() for record in caplog.records] == [sentence]


def test_a_wholly_permuted_model_gets_none_of_the_names(named: Library, tmp_path: Path) -> None:
    again = moved(named, mined(tmp_path / "b.crp", permuted(net(), [1, 2, 3, 4, 5, 0])).path)
    assert again.names["0"] == ()
    assert set(again.refused_names()) == {"0/1", "0/4"}


def test_a_model_trained_otherwise_gets_none_of_the_names(named: Library, tmp_path: Path) -> None:
    torch.manual_seed(9)
    model = nn.Sequential(*[type(layer)(*_arguments(layer)) for layer in net()])
    again = moved(named, mined(tmp_path / "b.crp", model).path)
    assert again.given_names() == {}
    assert len(again.refused_names()) == 3
    assert "no concept of the layer responds to the same samples" in again.refused_names()["0/1"]


def _arguments(layer: nn.Module) -> tuple:
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, layer.out_channels, layer.kernel_size
    return (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else ()


def test_a_name_of_another_layer_of_equal_size_is_refused(named: Library) -> None:
    content = json.loads((named.path / "names.json").read_text())
    for name in content["names"]:
        name["layer"] = {"0": "2", "2": "0"}[name["layer"]]
    (named.path / "names.json").write_text(json.dumps(content))
    again = crp.open_library(named.path)
    assert again.given_names() == {}
    assert set(again.refused_names().values()) == {"its layer holds concepts of another kind"}


def test_a_name_of_another_number_is_refused(named: Library) -> None:
    content = json.loads((named.path / "names.json").read_text())
    content["names"][0]["concept"] = 2
    (named.path / "names.json").write_text(json.dumps(content))
    assert crp.open_library(named.path).refused_names() == {"0/2": "this concept responds to other samples"}


def test_names_of_channels_are_not_those_of_positions(named: Library, tmp_path: Path) -> None:
    again = moved(named, mined(tmp_path / "b.crp", concept=PositionConcept()).path)
    assert again.given_names() == {}
    assert again.refused_names()["0/1"] == "its layer holds concepts of another kind"


class Swapped(nn.Sequential):
    """The same weights under the same names, called in another order."""

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self[6](self[5](self[4](self[3](self[1](self[0](data))))))


class Straight(Swapped):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self[6](self[5](self[4](self[1](self[3](self[0](data))))))


def test_equal_weights_in_another_program_are_told_by_the_responses(tmp_path: Path) -> None:
    torch.manual_seed(0)
    convolution = lambda i, o: nn.Conv2d(i, o, 3, padding=1)  # noqa: E731
    parts = [convolution(3, 6), convolution(6, 6), nn.Identity(), convolution(6, 6), nn.ReLU(), nn.Flatten()]
    parts.append(nn.Linear(6 * 64, 3))
    first = mined(tmp_path / "a.crp", Swapped(*parts), layers=["1"])
    second = mined(tmp_path / "b.crp", Straight(*parts), layers=["1"])
    assert first.manifest["model"]["weights"] == second.manifest["model"]["weights"]
    first.give_name("1/2", "edge")
    assert moved(first, second.path).refused_names() == {"1/2": "this concept responds to other samples"}


def test_without_common_data_other_weights_are_refused(named: Library, tmp_path: Path) -> None:
    model = net()
    with torch.no_grad():
        model[5].bias += 1
    again = moved(named, mined(tmp_path / "b.crp", model, seed=7).path)
    reason = "the model has other weights, and there are no scores on the same data to compare"
    assert set(again.refused_names().values()) == {reason}


@pytest.mark.parametrize(("first", "second"), [(2, 4), (4, 2)])
def test_few_samples_do_not_tell_a_concept_of_another_model(tmp_path: Path, first: int, second: int) -> None:
    model = net()
    library = mined(tmp_path / "a.crp", model, k=first)
    library.give_name("0/1", "edge")
    with torch.no_grad():
        model[5].bias += 1
    again = moved(library, mined(tmp_path / "b.crp", model, k=second).path)
    reason = "the model has other weights, and fewer than 3 reference samples of a concept are stored"
    assert again.refused_names() == {"0/1": reason}


def test_concepts_that_respond_alike_are_not_guessed(tmp_path: Path) -> None:
    model = net()
    with torch.no_grad():
        model[0].weight[5], model[0].bias[5] = model[0].weight[1], model[0].bias[1]
        model[0].weight[[2, 3]], model[0].bias[[2, 3]] = 0, -1  # never active
    library = mined(tmp_path / "a.crp", model, layers=["1"])
    library.give_name("1/1", "twin")
    library.give_name("1/2", "dead")
    with torch.no_grad():
        model[5].bias += 1
    again = moved(library, mined(tmp_path / "b.crp", model, layers=["1"]).path)
    assert again.refused_names() == {
        "1/1": "the model has other weights, and 2 concepts of the layer respond to the same samples",
        "1/2": "the model has other weights, and the named concept was active on no sample",
    }


# -- the file


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: text[: len(text) // 2], "is damaged: not JSON"),
        (lambda text: "[]", 'its "format" is not'),
        (lambda text: text.replace('"version": 1', '"version": 2'), "is of version 2; this program reads 1."),
        (lambda text: text.replace('"concept": 1,', '"concept": true,'), "is no concept"),
        (lambda text: text.replace('"concept": 4,', '"concept": 1,'), "it names a concept twice"),
        (lambda text: text.replace('"verdict": "artefact"', '"verdict": "bad"'), "There is no verdict 'bad'"),
        (lambda text: text.replace('"samples": [', '"samples": [1,', 1), "a fingerprint is damaged"),
    ],
)
def test_a_damaged_file_is_refused(named: Library, damage: object, sentence: str) -> None:
    file = named.path / "names.json"
    broken = damage(file.read_text())
    assert broken != file.read_text()
    file.write_text(broken)
    with pytest.raises(LibraryError) as refused:
        _ = crp.open_library(named.path).names
    assert sentence in str(refused.value)
    assert not crp.verify(named.path).sound


def test_names_that_are_given_at_the_same_time_are_all_kept(named: Library) -> None:
    keys = [f"{layer}/{concept}" for layer in ("0", "2") for concept in range(6)]
    files = {file.name for file in named.path.iterdir()}
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda key: crp.open_library(named.path).give_name(key, f"name of {key}"), keys))
    found = read_names(named.path / "names.json")
    assert {f"{layer}/{concept}": name.label for (layer, concept), name in found.items()} == {
        key: f"name of {key}" for key in keys
    }
    assert {file.name for file in named.path.iterdir()} == files  # no lock and no half of a file stays


def test_verification_counts_names_and_needs_no_checksum(named: Library) -> None:
    found = crp.verify(named.path)
    assert found.sound
    assert "3 names that people gave belong to the concepts of the library." in found.held
    assert not any("names.json" in note for note in found.notes)


# -- merging


def said(label: str, date: str, **fields: object) -> GivenName:
    return GivenName("0", 1, label=label, date=date, **fields)


def test_the_newer_of_two_names_is_kept_in_any_order() -> None:
    old, new = said("edge", "2026-01-02T00:00:00Z"), said("line", "2026-01-03T09:00:00+09:30", author="Bo")
    assert new.date == "2026-01-02T23:30:00Z"
    for first, second in ((old, new), (new, old)):
        found, (conflict,) = merged({first.key: first}, [second])
        assert found == {("0", 1): new}
        text = "0/1: 'line' (Bo 2026-01-02T23:30:00Z) is kept, 'edge' (2026-01-02T00:00:00Z) is older"
        assert str(conflict) == text
    assert merged({old.key: old}, [replace(old, author="Cy")])[1] == ()  # both say the same


def test_names_of_one_second_are_merged_the_same_way_in_any_order() -> None:
    one, two = said("edge", "2026-01-02T00:00:00Z"), said("line", "2026-01-02T00:00:00Z")
    assert merged({one.key: one}, [two])[0] == merged({two.key: two}, [one])[0]


def test_imported_names_are_merged_and_refused_ones_told(named: Library, tmp_path: Path) -> None:
    identity = named.identity("0")
    of_page = replace(identity.of(1), data="", score="", samples=(), scores=())  # what a page exports
    later = GivenName("0", 1, label="bar", date="2099-01-01T00:00:00Z", fingerprint=of_page)
    stranger = replace(later, concept=2, fingerprint=replace(of_page, identity="0" * 64))
    bare = GivenName("0", 5, label="x", date="2099-01-01T00:00:00Z")
    result = named.merge_names([later, stranger, bare, replace(later, concept=99), replace(later, layer="9")])
    assert (result.changes, [str(one).partition(" is kept")[0] for one in result.conflicts]) == (
        1, ["0/1: 'bar' (2099-01-01T00:00:00Z)"],
    )  # fmt: skip
    assert result.refused == {
        "0/2": "the model has other weights, and there are no scores on the same data to compare",
        "0/5": "it has no fingerprint",
        "0/99": "the layer has fewer concepts",
        "9/1": "the library does not hold its layer",
    }
    assert named.names["0"] == ("", "bar", "", "", "blob", "")
    # what was imported with a page's fingerprint is stored with the whole one
    assert read_names(named.path / "names.json")["0", 1].fingerprint == identity.of(1)
    assert named.merge_names([later]).changes == 0


def test_a_name_for_a_refused_one_takes_its_place(named: Library, tmp_path: Path) -> None:
    again = moved(named, mined(tmp_path / "b.crp", permuted(net(), [1, 2, 3, 4, 5, 0])).path)
    again.give_name("0/1", "other")
    assert again.given_names()["0", 1].note == ""  # the note was about another concept
    assert set(again.refused_names()) == {"0/4"}
