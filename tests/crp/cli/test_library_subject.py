"""Samples that a command reads for a library: folders are classes only where labels are asked for."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import crp
from crp.cli.library_subject import read_subject
from crp.concepts import ChannelConcept
from crp.demo import Scenes, demo_model
from crp.errors import InputError

GIVEN = {"device": "cpu", "model": "demo", "weights": None, "trust": False}


def test_folders_need_not_be_classes_without_labels(tmp_path: Path) -> None:
    scenes = Scenes("test", 40)
    for folder in ("day", "night"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
    for number in range(40):
        picture = Image.fromarray(scenes.preprocessing.to_picture(scenes[number][0]))
        picture.save(tmp_path / "photos" / ("day", "night")[number % 2] / f"{number}.png")
    library = crp.mine(
        demo_model(), scenes, layers=["conv5"], path=tmp_path / "a.crp", patches=0, progress=False,
        class_names=scenes.class_names, preprocessing=scenes.preprocessing,
    )  # fmt: skip
    options = {"data": str(tmp_path / "photos"), "samples": 40}
    found = read_subject(library, ChannelConcept(), GIVEN, labelled=False, **options)
    assert found.samples.labels is None
    order = found.samples.data.flatten(1).sum(1).sort().values
    expected = torch.stack([scenes[number][0] for number in range(40)]).flatten(1).sum(1).sort().values
    assert torch.allclose(order, expected, rtol=1e-3)
    with pytest.raises(InputError, match=r"'day' of .* is not a class name"):
        read_subject(library, ChannelConcept(), GIVEN, labelled=True, **options)
