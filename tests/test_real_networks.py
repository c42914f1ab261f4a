"""The trained networks of the real data compute what its README states; everything explained with them rests on it."""

from __future__ import annotations

import json

import pytest
import torch

import crp.attribution  # noqa: F401  (the workaround must run before torchvision is imported)
from tests.oracle import nets, photos


@pytest.mark.parametrize(("count", "right"), [(200, 160), pytest.param(1000, 804, marks=pytest.mark.slow)])
def test_resnet20_is_right_on_so_many_of_the_first_images(real_data, count, right):
    """As its README states for a thousand; in float64, so that no processor's rounding moves an image."""
    images, labels = photos.cifar10(real_data, count)
    with torch.no_grad():
        predicted = nets.trained_resnet20(real_data).double()(images.double()).argmax(1)
    assert int((predicted == labels).sum()) == right


@pytest.mark.parametrize(
    ("name", "model", "prepared"),
    [
        ("squeezenet1_1", nets.trained_squeezenet, photos.for_squeezenet),
        ("mobilenet_v1_025_128", nets.trained_mobilenet, photos.for_mobilenet),
    ],
)
def test_imagenet_networks_give_the_stated_classes_and_logits(real_data, name, model, prepared):
    expected = json.loads((real_data / "imagenet_samples" / "expected.json").read_text())[name]
    chosen = photos.samples(real_data)[::6]
    data = torch.stack([prepared(real_data / "imagenet_samples" / sample["file"]) for sample in chosen])
    with torch.no_grad():
        logits = model(real_data).double()(data.double())
    for sample, row in zip(chosen, logits, strict=True):
        stated = expected[sample["file"]]
        assert row.topk(5).indices.tolist() == stated["top5"], sample["file"]
        assert float(row[sample["class_index"]]) == pytest.approx(stated["logit_of_class"], abs=1e-4)
