"""Boxes that a function reads from what a detector returns: suppression, tracing, and relevance from their logits."""

import re

import pytest
import torch
from torch import nn

from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.detectors import box_logits, boxes_of, detect
from crp.attribution.raw_boxes import RawBoxes, read_boxes, suppressed
from crp.errors import InputError


class GridDetector(nn.Module):
    """As YOLO: at each position an objectness, two class logits and a box (middle and size)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.box_head = nn.Conv2d(8, 7, 1)  # any name may be taken

    def forward(self, data):
        raw = self.box_head(self.conv(data).relu()).flatten(2).mT  # [N, P, 7]
        return {"raw": raw}


def read(output):
    raw = output["raw"]
    middle, size = 16 + 8 * raw[..., 3:5], 4 + raw[..., 5:7].exp()
    scores = raw[..., :1].sigmoid() * raw[..., 1:3].sigmoid()
    return RawBoxes(raw[..., 1:3], torch.cat([middle - size / 2, middle + size / 2], -1), scores)


def image():
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)).double()


def made(**options):
    model = GridDetector().double().eval()
    return model, read_boxes(model, read, **{"threshold": 0.2, "overlap": 0.1, **options})


def test_boxes_are_the_best_of_those_that_overlap():
    model, detector = made()
    found = boxes_of(detector, image())
    with torch.no_grad():
        raw = read(model(image()[None]))
    scores, labels = raw.scores[0].max(1)
    # by hand: take the best box, drop those of its class that overlap it by more than a tenth, and go on
    left = [row for row in scores.argsort(descending=True).tolist() if scores[row] >= 0.2]
    expected = []
    while left:
        best, *rest = left
        expected.append(best)
        left = [row for row in rest if labels[row] != labels[best] or iou(raw.boxes[0, row], raw.boxes[0, best]) <= 0.1]
    assert 1 < len(expected) < 64
    assert [each.row for each in found] == expected
    assert [list(each.box) for each in found] == raw.boxes[0, expected].tolist()
    assert [each.score for each in found] == pytest.approx(scores[expected].tolist())
    assert len(boxes_of(made(most=2)[1], image())) == 2


def iou(first, second):
    sides = [min(a, b) - max(c, d) for a, b, c, d in zip(first[2:], second[2:], first[:2], second[:2], strict=True)]
    shared = max(0.0, float(sides[0])) * max(0.0, float(sides[1]))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (first, second)]
    return shared / (sum(areas) - shared)


def test_relevance_starts_at_the_logit_of_the_box_and_the_ledger_closes():
    model, detector = made()
    found = detect(detector, image())
    data = image()[None]
    with torch.no_grad():
        raw = read(model(data))
    every = box_logits(detector)(data)
    assert torch.equal(every, raw.logits)
    with RelevanceFlow(found.model, composite_for(found.model, data).composite, data, ["conv"]) as flow:
        for place, each in enumerate(found.boxes):
            assert torch.equal(flow.prediction[0, place], raw.logits[0, each.row])
            started = flow.output_relevance(each.start)
            assert float(started.sum()) == float(raw.logits[0, each.row, each.label])
            assert abs(flow.ledger(started).unaccounted) < 1e-9 * float(started.abs().sum())
            assert flow.down(started, to="conv")[0].abs().sum() > 0


def test_no_box_is_said():
    _, detector = made(threshold=2.0)
    assert boxes_of(detector, image()) == ()
    with pytest.raises(InputError, match=r"^The detector finds no box in this image\.$"):
        detect(detector, image())


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (None, "The function that reads boxes returned a NoneType; it must return RawBoxes."),
        (
            RawBoxes(torch.zeros(1, 5, 2), torch.zeros(1, 4, 4)),
            "The boxes that were read have the shape [1, 4, 4] and their class logits [1, 5, 2]; [N, P, 4] and "
            "[N, P, classes] are needed.",
        ),
        (
            RawBoxes(torch.zeros(1, 5, 2), torch.zeros(1, 5, 4), torch.zeros(1, 5)),
            "The scores that were read have the shape [1, 5], and their class logits [1, 5, 2]: both must be alike.",
        ),
    ],
)
def test_boxes_that_do_not_fit_are_refused(result, sentence):
    detector = read_boxes(GridDetector().double(), lambda output: result)
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        detect(detector, image())


def test_scores_are_sigmoids_by_default():
    model = GridDetector().double().eval()
    detector = read_boxes(model, lambda output: RawBoxes(read(output).logits, read(output).boxes), threshold=0.0)
    best = boxes_of(detector, image())[0]
    with torch.no_grad():
        assert best.score == pytest.approx(float(read(model(image()[None])).logits.sigmoid().max()))


def test_suppression_of_touching_boxes():
    boxes = torch.tensor([[0.0, 0, 2, 2], [2, 0, 4, 2], [0, 0, 2, 1]])
    same = torch.zeros(3)
    assert suppressed(boxes, same, 0.5).tolist() == [0, 1, 2]  # half of the first is not more than half
    assert suppressed(boxes, same, 0.49).tolist() == [0, 1]
    assert suppressed(boxes[:0], same[:0], 0.5).tolist() == []
