"""Mining per object: each object of a sample counts for its own class, explained in its own mask or box."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import crp
from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.detectors import box_logits, boxes_of
from crp.attribution.raw_boxes import RawBoxes, read_boxes
from crp.attribution.starts import Box, ClassInMask
from crp.errors import InputError
from crp.mining import ObjectLabel, ObjectSamples, detected_objects


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1)

    def forward(self, data):
        return self.head(self.conv(data).relu())


def pictures(count=3):
    return [torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def half(*, left):
    mask = np.zeros((8, 8), bool)
    mask[:, :4 if left else None] = True
    mask[:, :4] &= left
    return mask


# picture 0 has two objects, picture 1 none, picture 2 one
OBJECTS = [
    [ObjectLabel(1, ClassInMask(1, half(left=True))), ObjectLabel(2, ClassInMask(2, half(left=False)))],
    [],
    [ObjectLabel(1, ClassInMask(1, half(left=False)))],
]


def test_each_object_is_a_sample_with_the_relevance_of_its_own_mask(tmp_path):
    model, data = Segmenter(), pictures()
    samples = ObjectSamples(data, OBJECTS)
    library = crp.mine(
        model,
        samples,
        layers=["conv"],
        path=tmp_path / "objects.crp",
        targets=samples.targets,
        class_names=["ground", "cat", "dog"],
        k=3,
        patches=2,
        progress=False,
    )
    statistics = library.statistics("conv")
    assert statistics.count.tolist() == [0, 2, 1]
    expected = {1: [], 2: []}
    for picture, label in [(0, OBJECTS[0][0]), (0, OBJECTS[0][1]), (2, OBJECTS[2][0])]:
        batch = data[picture][None]
        composite = composite_for(model, batch).composite
        with RelevanceFlow(model, composite, batch, ["conv"]) as flow:
            relevance = flow.down(flow.output_relevance(label.start), to="conv")[0, 0].sum((1, 2))
        expected[label.target].append((relevance / relevance.abs().sum()).detach().numpy())
    for target, shares in expected.items():
        np.testing.assert_allclose(statistics.share[target], np.mean(shares, 0), rtol=1e-4, atol=1e-6)
    references = library.references("conv", "relevance")
    assert set(references.sample.ravel().tolist()) <= {0, 1, 2, -1}
    # objects 0 and 2 have class 1, object 1 has class 2: the class that a reference was explained for
    found = references.sample >= 0
    assert (references.target[found] == np.array([1, 2, 1])[references.sample[found]]).all()
    # a patch says where its concept is in the picture of its object: by hand, from the strongest position
    patch = library.patches("conv", 0, "activation")[0]
    own = ObjectSamples(data, OBJECTS)
    with torch.no_grad():
        activation = model.conv(own[patch.sample][0][None])[0, 0]
    assert int(activation.argmax()) == patch.position[0] * 8 + patch.position[1]
    again = crp.supply_patches(crp.open_library(library.path), model, own, targets=own.targets)
    assert [each.sample for each in again.patches("conv", 0, "relevance")]
    assert crp.verify(library.path, model, samples, targets=samples.targets).sound


def test_objects_have_the_names_of_their_pictures():
    samples = ObjectSamples(pictures(), OBJECTS)
    assert [samples.sample_name(index) for index in range(len(samples))] == [
        "sample 0, object 0", "sample 0, object 1", "sample 2, object 0",
    ]  # fmt: skip
    assert torch.equal(samples[2][0], pictures()[2])
    assert samples[2][1] == 2


@pytest.mark.parametrize(
    ("objects", "sentence"),
    [
        ([[]], "3 samples need as many lists of objects, given 1."),
        ([[], [], []], "There are no objects to mine: every list is empty."),
    ],
)
def test_lists_that_do_not_fit_are_refused(objects, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        ObjectSamples(pictures(), objects)


class Grid(Segmenter):
    """A box of four pixels at every fourth position."""

    def forward(self, data):
        logits = 20 * super().forward(data)[:, :, ::4, ::4].flatten(2).mT + 8
        corners = torch.tensor([[0.0, 0.0], [4, 0], [0, 4], [4, 4]]).expand(len(data), -1, -1)
        return logits, torch.cat([corners, corners + 4], -1)


def test_objects_of_a_detector_are_its_boxes(tmp_path):
    detector = read_boxes(Grid(), lambda output: RawBoxes(*output))
    data = pictures()
    objects = detected_objects(detector, data)
    assert any(objects)
    for own, picture in zip(objects, data, strict=True):
        boxes = [each for each in boxes_of(detector, picture) if each.score >= 0.5]
        assert [each.target for each in own] == [box.label for box in boxes]
        assert [each.start for each in own] == [
            Box(box.row, box.label, f"box {number}", box.box) for number, box in enumerate(boxes)
        ]
    samples = ObjectSamples(data, objects)
    library = crp.mine(
        box_logits(detector),
        samples,
        layers=["conv"],
        path=tmp_path / "boxes.crp",
        targets=samples.targets,
        class_names=["a", "b", "c"],
        k=3,
        progress=False,
    )
    counts = np.bincount([each.target for own in objects for each in own], minlength=3)
    assert library.statistics("conv").count.tolist() == counts.tolist()
