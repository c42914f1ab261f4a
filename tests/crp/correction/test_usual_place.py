"""Concepts that keep to a place: found without labels, told from all else by all channels, and taken out there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch.utils.data import TensorDataset

import crp
from crp import InputError
from crp.cli import main
from crp.concepts import ChannelConcept
from crp.correction import candidates, coincidences, placed_direction, reactive
from crp.correction.coincidence import Cells, mixed, same_content
from crp.correction.presence import find_presence
from crp.correction.reading import read_samples
from crp.correction.usual_place import _border, _equal_errors
from crp.layout import Layout
from tests.crp.correction.planted import marked_data, marked_model

CODE = """
from torch.utils.data import TensorDataset
from tests.crp.correction.planted import marked_data, marked_model as model

def data():
    return TensorDataset(*marked_data()[:2])
"""


def unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def test_coincidences_by_hand_sample_by_sample() -> None:
    """Relevance is the activation times the weight, and the layer has one position in each cell."""
    model, (data, _, _) = marked_model(), marked_data(160)
    found = coincidences(model, data, ["conv"], ChannelConcept(), progress=False)
    with torch.no_grad():
        predicted = model(data).argmax(1)
    contents = data.flatten(2).double().numpy()  # [N, 3, 64]
    weight = model.logits.weight.detach().double().numpy()
    of_place, middle = contents.mean(0), contents.mean((0, 2))
    for target in (0, 1):
        rows = mixed((predicted == target).nonzero().flatten()).tolist()
        first, second = rows[: (len(rows) + 1) // 2], rows[(len(rows) + 1) // 2 :]
        count = len(first) // 2
        supporting = {row: np.maximum(contents[row] * weight[target][:, None], 0).sum(0) for row in rows}
        relied = {row: values / values.sum() if values.sum() else values for row, values in supporting.items()}
        expected = np.zeros(3)
        for place in range(64):
            chosen = sorted(first, key=lambda row, place=place: -relied[row][place])[:count]
            if np.mean([relied[row][place] for row in chosen]) <= 1 / 64:
                continue
            there = [unit(contents[row, :, place] - of_place[:, place]) for row in chosen]
            alike = np.mean([one @ other for i, one in enumerate(there) for j, other in enumerate(there) if i != j])
            wanted = unit(sum(unit(contents[row, :, place] - middle) for row in chosen))
            matches = {row: [wanted @ unit(contents[row, :, at] - middle) for at in range(64)] for row in rows}
            nearest = sorted(second, key=lambda row, matches=matches: -max(matches[row]))[:count]
            here = (np.mean([np.argmax(matches[row]) == place for row in nearest]) - 1 / 64) / (1 - 1 / 64)
            along = np.zeros(3)
            for concept in range(3):
                strengths = [contents[row, concept].max() for row in rows]
                if np.ptp(strengths):
                    along[concept] = np.corrcoef(strengths, [matches[row][place] for row in rows])[0, 1]
            best = along.argmax()
            expected[best] = max(expected[best], max(0, alike) * max(0, here) * max(0, along[best]))
        assert found["conv"][target] == pytest.approx(expected, abs=1e-5)
    assert sorted(found["conv"][1])[1] < 0.1  # two concepts respond to the mark, and it counts for one of them
    assert found["conv"][1][:2].max() > 0.6
    assert not found["conv"][0].any()  # class 0 has no relevance, so it relies on no place


def test_a_background_that_is_the_same_everywhere_is_of_no_place() -> None:
    """Content that is found at other places, too, does not count, though it is as alike as a mark."""
    draw = torch.Generator().manual_seed(0)
    contents, by = torch.rand(80, 12, 16, generator=draw), torch.rand(80, 16, generator=draw)
    has = torch.arange(80) % 4 < 2
    contents[has, :, 3] = torch.tensor([2.0, 0.0, 0.0] * 4)
    by[has, 3] += 1
    strength = torch.stack([has.float(), torch.rand(80, generator=draw)], 1)
    found = same_content(contents, by, strength, mixed(torch.arange(80)), 10)
    assert found.shape == (2, 16)
    assert found[0, 3] > 0.9
    assert found[0, [*range(3), *range(4, 16)]].max() < 0.3
    assert found[1].max() < 0.3
    for row in range(80):
        contents[row, :, 4 + row % 12] = torch.tensor([2.0, 0.0, 0.0] * 4)
    assert same_content(contents, by, strength, mixed(torch.arange(80)), 10)[0, 3] < 0.5
    constant = same_content(contents, by, torch.full((80, 1), 0.1), mixed(torch.arange(80)), 10)
    assert not constant.any()  # and no rounding of a mean is taken for a correlation


def test_cells_are_an_even_grid_over_the_input() -> None:
    def cells(layout: Layout, *at: int) -> tuple[list[int], int]:
        found = Cells(layout)
        return found.of[list(at)].tolist(), found.count

    assert cells(Layout((4, 16, 32)), 0, 3, 4, 31, 32, 64, 511) == ([0, 0, 1, 7, 0, 8, 63], 64)
    assert cells(Layout((4, 2, 3)), 0, 2, 3, 5) == ([0, 2, 3, 5], 6)
    assert cells(Layout((4, 128)), 0, 1, 2, 127) == ([0, 0, 1, 63], 64)
    assert cells(Layout((4, 8, 8, 8)), 0, 1, 2, 8, 511) == ([0, 0, 1, 0, 63], 64)
    assert Cells(Layout((4,))).count == 0
    tokens = Cells(Layout((17, 5), last=True, grid=(4, 4), prefix=1))
    assert (tokens.of.tolist(), tokens.count) == ([*range(16)], 16)
    values = torch.arange(17.0)
    assert tokens.total(values).tolist() == [*range(1, 17)]  # the token in front of the grid is left out
    wide = Cells(Layout((1, 128)))
    assert wide.mean(torch.arange(128.0))[:2].tolist() == [0.5, 2.5]


def test_small_classes_and_layers_without_places_are_left_out() -> None:
    model, (data, labels, _) = marked_model(), marked_data(120)
    some = torch.cat([data[labels == 0], data[labels == 1][:19]])
    found = coincidences(model, some, ["conv", "mean", "flatten"], ChannelConcept(), progress=False)
    assert {layer: list(classes) for layer, classes in found.items()} == {"conv": [0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marked")
    (folder / "marked_subject.py").write_text(CODE, encoding="utf-8")
    crp.mine(
        marked_model(), TensorDataset(*marked_data()[:2]), layers=["conv"], path=folder / "a.crp", vectors=True,
        class_names=["first", "second"], patches=0, progress=False, targets="label",
    )  # fmt: skip
    return folder


def run(folder: Path, command: str, *options: str) -> Result:
    code = f"{folder}/marked_subject.py"
    given = (command, str(folder / "a.crp"), "--data", f"{code}:data", "--model", f"{code}:model", *options)
    return CliRunner().invoke(main, list(given), catch_exceptions=False)


def test_what_keeps_to_a_place_is_likely_and_first(folder: Path) -> None:
    library, (data, _, _) = crp.open_library(folder / "a.crp"), marked_data()
    assert not any(one.likely for one in candidates(library))
    places = coincidences(marked_model(), data, ["conv"], ChannelConcept(), progress=False)
    found = candidates(library, places=places)
    assert found[0].concept in (0, 1)
    assert [(one.fixed, one.likely) for one in found] == [(True, True), (False, False), (False, False)]
    assert found[0].place == places["conv"][1][found[0].concept] > 0.6
    moved = torch.stack([row.roll(tuple(torch.randint(8, (2,)).tolist()), (1, 2)) for row in data])
    places = coincidences(marked_model(), moved, ["conv"], ChannelConcept(), progress=False)
    assert not any(one.likely for one in candidates(library, places=places))


def test_the_command_lists_places_and_measures_the_concept_there(folder: Path) -> None:
    done = run(folder, "suspects", "--json", "--measured", "2")
    rows = json.loads(done.stdout)
    assert [(row["concept"] in (0, 1), row["fixed"], row["likely"]) for row in rows] == [
        (True, True, True), (False, False, False), (True, False, False)
    ]  # fmt: skip
    assert rows[0]["likely_above"]["place"] == 0.5
    assert rows[0]["pulled"] == 1.0  # put into samples of class 0, the mark makes them class 1
    text = run(folder, "suspects", "--measured", "1").output
    assert f" {rows[0]['place']:.0%} " in text
    assert "place: how much of it is the same content at a fixed place, as a watermark would be." in text
    page = folder / "page.html"
    assert run(folder, "suspects", "--measured", "2", "--page", str(page)).exit_code == 0
    written = page.read_text(encoding="utf-8")
    assert "of it is the same content at a fixed place, as a watermark would be" in written
    assert written.count("--by reactive --usual-place …") == 1
    assert written.count("--by refit …") == 2
    assert written.index("<h2>Likely</h2>") < written.index("<h2>Not measured</h2>")
    alone = CliRunner().invoke(main, ["suspects", str(folder / "a.crp")], catch_exceptions=False).output
    assert "  place" not in alone


def test_the_direction_tells_the_mark_where_its_channel_does_not() -> None:
    model, (data, _, has) = marked_model(), marked_data()
    channel = find_presence(model, data, "conv", 0, ChannelConcept(), active=0.5, progress=False)
    assert channel.samples.all()
    mark = placed_direction(model, data, "conv", 0, progress=False)
    found = find_presence(model, data, "conv", 0, mark, progress=False)
    assert torch.equal(found.samples, has)
    assert found.active[has].sum(0).nonzero().flatten().tolist() == [63]
    assert mark.names == ("conv/0 at its place",)
    other = marked_data(80, seed=1)
    assert torch.equal(find_presence(model, other[0], "conv", 0, mark, progress=False).samples, other[2])


def test_taken_out_at_its_place_nothing_else_changes() -> None:
    model, (data, labels, has) = marked_model(), marked_data()
    mark = placed_direction(model, data, "conv", 0, progress=False)
    fixed = reactive(model, data, "conv", 0, kind=mark, progress=False).model
    pasted = data[labels == 0].clone()
    pasted[:, :2, 7, 7] = 1.1
    with torch.no_grad():
        assert (model(pasted).argmax(1) == 1).all()
        assert (fixed(pasted).argmax(1) == 0).all()
        assert torch.equal(fixed(data[~has]), model(data[~has]))


def test_fix_takes_the_concept_out_at_its_usual_place(folder: Path) -> None:
    out = folder / "fixed.pt2"
    done = run(folder, "fix", "--concept", "conv/0", "--by", "reactive", "--usual-place", "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["method"] == "erased where it is active, within 2 positions; the concept at its usual place"
    data, labels, has = marked_data()
    _, held_out = read_samples(TensorDataset(data, labels), 1000, labelled=False, progress=False)
    marked = int(has[list(held_out.indices)].sum())
    assert (figures["having"], figures["lacking"]) == (marked, 60 - marked)
    assert figures["before"]["pulled"] >= 0.8  # the exchange takes out what is around the mark, too
    assert figures["after"]["pulled"] == 0.0
    assert out.is_file()
    refused = run(folder, "fix", "--concept", "conv/0", "--by", "suppress", "--usual-place", "--out", str(out))
    assert (refused.exit_code, "--usual-place is for project, reactive and refit" in refused.output) == (2, True)


def test_a_place_that_tells_nothing_is_refused() -> None:
    model, (data, _, _) = marked_model(), marked_data()
    data[:, :2, 7, 7] = 1.1
    with pytest.raises(InputError, match="the 240 samples, those in which it is strongest do not show the same"):
        placed_direction(model, data, "conv", 0, progress=False)
    with pytest.raises(InputError, match="Layer 'flatten' has no positions, so a concept has no usual place in it"):
        placed_direction(model, data, "flatten", 0, progress=False)


def test_borders_by_hand() -> None:
    assert _border(torch.tensor([0.0, 0.1, 0.2, 5.0, 5.1, 5.2, 0.1])) == pytest.approx(2.6)
    with pytest.raises(InputError, match="the same value"):
        _border(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
    assert _equal_errors(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0])) == 2.0
    having, lacking = torch.arange(0, 101).double(), torch.arange(-50, 51).double()
    border = _equal_errors(having, lacking)
    assert np.isclose((having < border).double().mean(), (lacking > border).double().mean(), atol=0.01)
