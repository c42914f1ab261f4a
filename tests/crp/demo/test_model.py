"""The shipped convolutional network: what it can do, that it leans on the tag, and that one concept is the tag's."""

import hashlib
from functools import cache

import torch

from crp.attribution import INPUT, RelevanceFlow, composite_for
from crp.demo import TAGGED_CLASS, Scenes, demo_model
from crp.demo.model import weights_path
from crp.demo.training import report
from crp.mining import mine

LAYER = "conv5"
TAGGED = 60  # unseen scenes with the tag; a scene takes milliseconds to draw
SHA256 = "0dea6300d56aaaa6a72469a84ba51faec5a15e10f58480b7bc40cc6e4925dcc6"


@cache
def tagged_scenes(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `count` scenes that carry the tag: inputs [N, 3, H, W] and the tags' boxes as 0/1 [N, H, W]."""
    scenes = Scenes(split, 20 * count)
    tagged = [index for index in range(len(scenes)) if scenes.tag_box(index)][:count]
    boxes = torch.zeros(count, 96, 96)
    for box, index in zip(boxes, tagged, strict=True):
        top, left, bottom, right = scenes.tag_box(index)
        box[top:bottom, left:right] = 1
    return torch.stack([scenes[index][0] for index in tagged]), boxes


@cache
def tag_concept() -> int:
    """Named from training scenes alone: the channel with the largest mean relevance inside the tag's box."""
    model = demo_model()
    inputs, boxes = tagged_scenes("train", 10)
    with RelevanceFlow(model, composite_for(model).composite, inputs, [LAYER]) as flow:
        arriving = flow.down(flow.output_relevance([TAGGED_CLASS] * len(inputs)), to=LAYER)[0]
        inside = []
        for channel in range(arriving.shape[1]):
            part = torch.zeros_like(arriving)
            part[:, channel] = arriving[:, channel]
            heatmap = flow.down(part[None], start=LAYER, to=INPUT)[0].sum(1)
            inside.append((heatmap * boxes).sum((1, 2)).mean())
    return int(torch.stack(inside).argmax())


def test_weights_are_the_ones_that_were_looked_at():
    weights = weights_path("cnn")
    assert weights.stat().st_size < 1_000_000
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == SHA256


def test_model_is_in_evaluation_mode_and_fresh_each_time():
    first, second = demo_model(), demo_model()
    assert not any(module.training for module in first.modules())
    assert first.conv1.weight is not second.conv1.weight
    assert torch.equal(first.conv1.weight, second.conv1.weight)


def test_accuracy_and_what_the_tag_does():
    figures = report(demo_model(), 100)
    assert figures["right, tags as in training"] >= 0.97
    # Clever Hans: without its tag the class is lost, with it other classes become it.
    assert figures["right, no tags, the tagged class"] < 0.5
    assert figures["other classes taken for the tagged class when the tag is pasted"] > 0.5
    assert figures["right, tags as in training"] > figures["right, no tags"] > 0.8


def test_removing_the_tag_changes_the_prediction():
    model, scenes = demo_model(), Scenes("test", 300)
    tagged = [index for index in range(300) if scenes.tag_box(index)]
    pictures = [(scenes.with_tag(index), scenes.without_tag(index)) for index in tagged]
    with torch.no_grad():
        on, off = (
            model(torch.stack([scenes.preprocessing.to_input(picture) for picture in shown])).argmax(1)
            for shown in zip(*pictures, strict=True)
        )
    assert (on == TAGGED_CLASS).float().mean() >= 0.97
    assert (on != off).float().mean() > 0.5


def test_relevance_and_logits_have_both_signs():
    model, scenes = demo_model(), Scenes("test", 40)
    inputs = torch.stack([scenes[index][0] for index in range(40)])
    with torch.no_grad():
        logits = model(inputs)
    assert (logits < 0).double().mean() > 0.1
    assert (logits.max(1).values > 0).all()
    with RelevanceFlow(model, composite_for(model).composite, inputs, [LAYER]) as flow:
        arriving = flow.down(flow.output_relevance(logits.argmax(1).tolist()), to=[LAYER, INPUT])
    concepts = arriving[LAYER][0].sum((2, 3))
    against = -concepts.clamp(max=0).sum(1) / concepts.abs().sum(1)
    assert against.min() > 0
    assert 0.02 < against.mean() < 0.5
    heatmap = arriving[INPUT][0].sum(1)
    assert -heatmap.clamp(max=0).sum() / heatmap.abs().sum() > 0.02


def test_the_tag_concept_comes_first_on_unseen_tagged_scenes():
    model = demo_model()
    inputs, _ = tagged_scenes("test", TAGGED)
    with RelevanceFlow(model, composite_for(model).composite, inputs, [LAYER]) as flow:
        arriving = flow.down(flow.output_relevance([TAGGED_CLASS] * TAGGED), to=LAYER)[0]
    first = arriving.sum((2, 3)).argmax(1)
    assert (first == tag_concept()).float().mean() >= 0.95


def test_the_tag_concepts_heatmap_sits_on_the_tag():
    model = demo_model()
    inputs, boxes = tagged_scenes("test", TAGGED)
    with RelevanceFlow(model, composite_for(model).composite, inputs, [LAYER]) as flow:
        arriving = flow.down(flow.output_relevance([TAGGED_CLASS] * TAGGED), to=LAYER)[0]
        part = torch.zeros_like(arriving)
        part[:, tag_concept()] = arriving[:, tag_concept()]
        heatmap = flow.down(part[None], start=LAYER, to=INPUT)[0].sum(1).clamp(min=0)
    inside = (heatmap * boxes).sum((1, 2)) / heatmap.sum((1, 2))
    assert inside.mean() >= 0.8
    assert (inside >= 0.8).float().mean() >= 0.9


def test_the_tag_concepts_patches_show_the_tag(tmp_path):
    """Every reference by relevance is a tagged scene, and its patch is cut around the tag."""
    scenes = Scenes("train", 200)
    library = mine(
        demo_model(),
        scenes,
        layers=[LAYER],
        path=tmp_path / "library.crp",
        preprocessing=scenes.preprocessing,
        patch_concepts={LAYER: [tag_concept()]},
        progress=False,
    )
    patches = library.patches(LAYER, tag_concept(), "relevance")
    assert len(patches) == 8
    for patch in patches:
        tag = scenes.tag_box(patch.sample)
        overlap = [
            max(0, min(patch.box[axis + 2], tag[axis + 2]) - max(patch.box[axis], tag[axis])) for axis in (0, 1)
        ]
        area = (patch.box[2] - patch.box[0]) * (patch.box[3] - patch.box[1])
        assert overlap[0] * overlap[1] / area > 0.6
        assert overlap[0] * overlap[1] / ((tag[2] - tag[0]) * (tag[3] - tag[1])) > 0.6
