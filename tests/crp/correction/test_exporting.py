"""Masks and lists of samples for training elsewhere: the masks lie where the concept was planted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch.utils.data import TensorDataset

import crp
from crp import InputError
from crp.cli import main
from crp.concepts import ChannelConcept
from crp.correction import export_masks
from crp.correction.exporting import COLUMNS, concept_masks
from crp.correction.presence import find_presence
from crp.correction.reading import Samples
from crp.demo import Scenes, demo_model
from tests.crp.correction.planted import TAG, planted_data, planted_model

CODE = """
from torch.utils.data import TensorDataset
from tests.crp.correction.planted import planted_data, planted_model as model

def data():
    return TensorDataset(*planted_data(80))
"""


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_list_has_every_sample_and_masks_lie_where_the_tag_is(tmp_path: Path) -> None:
    model, (data, labels) = planted_model(), planted_data(60)
    indices = tuple(range(100, 160))
    path = export_masks(
        model, Samples(data, labels, indices), "conv", 0, tmp_path / "out", class_names=["first", 'a "b", c'],
        progress=False,
    )  # fmt: skip
    found = rows_of(path)
    assert [*found[0]] == list(COLUMNS)
    assert [int(row["sample"]) for row in found] == list(indices)
    with torch.no_grad():
        predicted = model(data).argmax(1)
    for row, sample, label, seen in zip(found, data, labels.tolist(), predicted.tolist(), strict=True):
        where = (sample[TAG] == 1).nonzero()
        assert int(row["has_concept"]) == len(where)
        assert float(row["strength"]) == pytest.approx(float(sample[TAG].max()), abs=1e-4)
        assert row["label"] == ["first", 'a "b", c'][label]
        assert row["predicted"] == ["first", 'a "b", c'][seen]
        assert bool(row["mask"]) == bool(len(where))
        if len(where):
            with Image.open(tmp_path / "out" / row["mask"]) as picture:
                mask = np.asarray(picture)
            assert mask.shape == (8, 8)
            assert set(np.unique(mask)) == {0, 255}
            # a pixel, averaged over 5 x 5
            top, left = where[0].tolist()
            expected = np.zeros((8, 8), dtype=bool)
            expected[max(0, top - 2) : top + 3, max(0, left - 2) : left + 3] = True
            assert np.array_equal(mask == 255, expected)
    assert len(list((tmp_path / "out" / "masks").iterdir())) == sum(int(row["has_concept"]) for row in found)
    unlabelled = export_masks(model, Samples(data, None, indices), "conv", 0, tmp_path / "out", progress=False)
    assert {row["label"] for row in rows_of(unlabelled)} == {""}


def test_masks_of_the_tag_of_the_demo_cover_it() -> None:
    scenes, model = Scenes("train", 200), demo_model()
    tagged = [index for index in range(200) if scenes.tag_box(index)][:12]
    data = torch.stack([scenes[index][0] for index in tagged])
    truth = torch.stack([torch.as_tensor(scenes.masks(index)["tag"]) for index in tagged]).bool()
    presence = find_presence(model, data, "conv5", 37, ChannelConcept(), progress=False)
    assert presence.samples.all()
    masks = concept_masks(model, data, presence, torch.arange(len(data)))
    inside = (masks & truth).sum((1, 2)).double()
    assert float((inside / truth.sum((1, 2))).mean()) > 0.85  # of the tag
    assert float((inside / masks.sum((1, 2))).mean()) > 0.75  # of the mask


def test_what_has_no_masks_is_refused(tmp_path: Path) -> None:
    model, (data, _) = planted_model(), planted_data(10)
    (tmp_path / "file").write_text("")
    for given, folder, sentence in (
        (Samples(data[..., 0], None, tuple(range(10))), tmp_path / "a", "Masks are of images"),
        (Samples(data * 0, None, tuple(range(10))), tmp_path / "a", "is active in none of the 10 samples"),
        (Samples(data, None, tuple(range(10))), tmp_path / "file", "cannot be made"),
    ):
        with pytest.raises(InputError, match=sentence):
            export_masks(model, given, "conv", 0, folder, progress=False)


def test_the_command_writes_the_folder(tmp_path: Path) -> None:
    (tmp_path / "masked_subject.py").write_text(CODE, encoding="utf-8")
    crp.mine(
        planted_model(), TensorDataset(*planted_data(40)), layers=["conv"], path=tmp_path / "a.crp", patches=0,
        progress=False, targets="label", class_names=["first", "second"],
    )  # fmt: skip
    code = f"{tmp_path}/masked_subject.py"
    command = ["masks", str(tmp_path / "a.crp"), "--concept", "conv/0", "--data", f"{code}:data", "--model",
               f"{code}:model", "--labels", "--out", str(tmp_path / "tag")]  # fmt: skip
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip().splitlines()[-1] == str(tmp_path / "tag" / "samples.csv")
    found = {int(row["sample"]): row for row in rows_of(tmp_path / "tag" / "samples.csv")}
    data, labels = planted_data(80)
    assert sorted(found) == list(range(80))
    for index, row in found.items():
        assert int(row["has_concept"]) == int((data[index, TAG] == 1).sum())
        assert row["label"] == ["first", "second"][labels[index]]
