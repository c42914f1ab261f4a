"""Boxes of torchvision's detectors: which proposal became which box, and relevance that starts at its class."""

import numpy as np
import pytest
import torch
from torch import nn

import crp
from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.detectors import Detections, box_logits, detect
from crp.attribution.starts import Box
from crp.errors import InputError, ModelError
from crp.mining import AttributionTarget
from tests.torchvision_operators import operators


@pytest.fixture(scope="module", autouse=True)
def torchvision_operators():
    with operators():
        yield


def detector(**options):
    """A Faster R-CNN with a backbone of two layers."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
    backbone.out_channels = 8
    model = FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(((8, 16),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        box_head=TwoMLPHead(72, 16),
        box_predictor=FastRCNNPredictor(16, 3),
        min_size=48,
        max_size=64,
        rpn_post_nms_top_n_test=12,
        **{"box_score_thresh": 0.0, "box_detections_per_img": 6, **options},
    )
    for weight in model.roi_heads.parameters():
        weight.data *= 3  # boxes that differ in score and place
    return model.double().eval()


def backbone(channels=8):
    torch.manual_seed(0)
    found = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, channels, 3, 2, 1), nn.ReLU())
    found.out_channels = channels
    return found


def spread(model):
    """Make boxes differ in score and place."""
    for name, weight in model.head.named_parameters():
        weight.data *= 30 if weight.ndim > 1 and ("cls_logits" in name or "bbox_reg" in name) else 1
    return model.double().eval()


def retina():
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.rpn import AnchorGenerator

    anchors = AnchorGenerator(((8, 16),), ((0.5, 1.0, 2.0),))
    few = {"score_thresh": 0.0, "detections_per_img": 6}
    return spread(RetinaNet(backbone(), 3, anchor_generator=anchors, min_size=48, max_size=64, **few))


def ssd():
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD

    few, features = {"score_thresh": 0.0, "detections_per_img": 6}, backbone()
    features.out_channels = [8]
    return spread(SSD(features, DefaultBoxGenerator([[2]], scales=[0.2, 0.5]), (48, 48), 3, **few))


def fcos():
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.rpn import AnchorGenerator

    anchors = AnchorGenerator(((8,),), ((1.0,),))
    few = {"score_thresh": 0.0, "detections_per_img": 6}
    return spread(FCOS(backbone(32), 3, anchor_generator=anchors, min_size=48, max_size=64, **few))


def image(seed=3):
    return torch.rand(3, 40, 32, generator=torch.Generator().manual_seed(seed)).double()


SCORES = {
    detector: lambda logits: logits.softmax(-1),
    retina: torch.sigmoid,
    ssd: lambda logits: logits.softmax(-1),
    fcos: None,  # also of how well the box is centred, which no logit says
}


@pytest.mark.parametrize("make", SCORES)
def test_boxes_are_those_of_the_model_with_their_logits(make):
    model = make()
    found = detect(model, image())
    with torch.no_grad():
        (own,) = model([image()])
        logits, every = found.model(image()[None]), box_logits(model)(image()[None])
    assert isinstance(found, Detections)
    assert len(found.boxes) == len(own["boxes"]) == 6
    assert [list(each.box) for each in found.boxes] == own["boxes"].tolist()
    assert [each.label for each in found.boxes] == own["labels"].tolist()
    assert logits.shape == (1, 6, 3)
    # the score of each box is that of its row
    for row, each in enumerate(found.boxes):
        if SCORES[make] is not None:
            scores = SCORES[make](logits[0])[:, each.label]
            assert float(scores[row]) == pytest.approx(each.score, rel=1e-12)
        assert each.start == Box(row, each.label, f"box {row}", each.box)
        # a product with more rows may be rounded in another way
        torch.testing.assert_close(every[0, each.row], logits[0, row], rtol=1e-12, atol=1e-12)
        started = each.start.relevance(logits)
        assert float(started.sum()) == float(logits[0, row, each.label])
        assert int((started != 0).sum()) == 1


def test_boxes_of_the_model_that_is_mined_are_those_of_the_detector():
    model = retina()
    assert detect(box_logits(model), image()).boxes == detect(model, image()).boxes


def test_proposals_of_a_box_are_those_of_all_logits():
    model = detector()
    with torch.no_grad():
        every, chosen = box_logits(model)(image()[None]), detect(model, image()).model(image()[None])
    assert every.shape == (1, 12, 3)
    for row in chosen[0]:
        assert float((every[0] - row).abs().amax(1).min()) < 1e-12


def mobile():
    """Features of several sizes, frozen batch norms, hard swish and squeeze-and-excitation."""
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(0)
    sizes = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 8}
    few = {"box_score_thresh": 0.0, "box_detections_per_img": 2}
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=4, **sizes, **few)
    return model.double().eval()


@pytest.mark.parametrize("make", [detector, mobile, retina, ssd, fcos])
def test_the_ledger_closes_from_each_box(make):
    found = detect(make(), image())
    data = image()[None]
    with RelevanceFlow(found.model, composite_for(found.model, data).composite, data) as flow:
        assert not any("roi_align" in note for note in flow.notes)
        heatmaps = []
        for each in found.boxes:
            started = flow.output_relevance(each.start)
            ledger = flow.ledger(started)
            assert abs(ledger.unaccounted) < 1e-9 * float(started.abs().sum())
            heatmaps.append(flow.down(started)[0, 0].sum(0))
            assert float(heatmaps[-1].sum()) == pytest.approx(ledger.arrived, rel=1e-9, abs=1e-12)
    assert not torch.allclose(heatmaps[0], heatmaps[1], rtol=1e-3, atol=0)


def best_box(prediction, labels):
    """Explain the box with the largest logit of a class that is not the background."""
    best = prediction[:, :, 1:].flatten(1).argmax(1)
    start = Box(int(best[0]) // 2, int(best[0]) % 2 + 1)
    return AttributionTarget(np.array([int(best[0]) % 2]), start)


def test_a_box_is_explained_with_a_mined_library(tmp_path):
    model = detector()
    library = crp.mine(
        box_logits(model),
        [image(seed) for seed in range(2)],
        layers=["backbone.2"],
        path=tmp_path / "boxes.crp",
        targets=best_box,
        class_names=["cat", "dog"],
        block_size=1,
        patches=1,
        progress=False,
    )
    assert library.manifest["model"]["output"] == "class logits of boxes"
    found = detect(model, image())
    chosen = found.boxes[1]
    atlas = crp.atlas(found.model, image(), library, target=chosen.start)
    with torch.no_grad():
        logit = float(found.model(image()[None])[0, 1, chosen.label])
    assert atlas.explanation.target.name.endswith(" in box 1")
    assert atlas.explanation.target.value == pytest.approx(logit, rel=1e-12)
    assert atlas.explanation.classes == ()
    assert " in box 1" in atlas.html()


def test_what_cannot_be_explained_is_refused():
    model = detector()
    with pytest.raises(ModelError, match=r"^Boxes of a Linear cannot be explained: it is not a Faster R-CNN, "):
        detect(nn.Linear(3, 2), image())
    with pytest.raises(InputError, match=r"^An image is a tensor \[c, H, W\] or \[1, c, H, W\], given \[2, "):
        detect(model, torch.stack([image(), image()]))
    with pytest.raises(InputError, match=r"^The detector finds no box in this image\.$"):
        detect(detector(box_score_thresh=1.1), image())
    with pytest.raises(InputError, match=r"^These boxes belong to one image \[3, 40, 32\], given \[1, 3, 40, 40\]"):
        detect(model, image()).model(torch.rand(1, 3, 40, 40).double())


@pytest.mark.parametrize("make", [detector, retina])
def test_the_model_is_not_changed(make):
    model = make().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = detect(model, image())
    assert model.training
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert len(found.boxes) == 6
