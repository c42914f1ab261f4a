"""The numbers of an atlas, against the slow way: every concept carried down by itself and summed up cell by cell."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon, ReLUGuidedBackprop
from zennit.types import Linear

import crp
from crp import models as preparing
from crp.attribution import CondAttribution, RelevanceFlow, composite_for
from crp.concepts import ChannelConcept
from crp.errors import LibraryError
from crp.explanations import to_json
from crp.explanations.computation import explain
from crp.explanations.map_computation import concepts_in_cells, grid_of
from crp.graphs.composition import compose
from crp.graphs.concept_graph import graph_numbers
from tests.oracle.comparing import assert_relevance_close

from .conftest import LAYERS, NAMES, Pictures, mined, network

FLOAT32 = 1e-6  # all is computed in float64; pictures of relevance are kept in float32


def by_hand(model, image, layer, target, concepts):
    """Relevance of each concept and its heatmap, one condition at a time."""
    result = CondAttribution(model)(
        image[None], [{layer: [c], "y": [target]} for c in range(concepts)], composite_for(model).composite
    )
    arriving = result.relevances[layer][0]
    return ChannelConcept().total(arriving[None])[0].numpy(), result.heatmap.numpy()


@pytest.mark.parametrize("layer", LAYERS)
def test_shares_rest_and_coverage(model, library, image, layer):
    """Concepts are ranked by signed relevance; shown and rest are all of the absolute relevance."""
    explanation = explain(model, image, library, target="bee", concepts=2)
    (found,) = [part for part in explanation.layers if part.layer == layer]
    relevance, heatmaps = by_hand(model, image, layer, 1, found.size)
    shares = relevance / np.abs(relevance).sum()
    order = np.argsort(-shares)
    assert [part.concept for part in found.supporting] == [c for c in order[:2] if shares[c] > 0]
    assert [part.concept for part in found.opposing] == [c for c in order[::-1][:2] if shares[c] < 0]
    for part in found.ranked:
        assert part.share == pytest.approx(shares[part.concept], rel=1e-9)
        assert_relevance_close(part.heatmap, heatmaps[part.concept], FLOAT32)
    assert sum(abs(part.share) for part in found.ranked) + found.rest == pytest.approx(1, abs=1e-12)
    logit = model(image[None])[0, 1].item()
    assert found.coverage == pytest.approx(relevance.sum() / logit, rel=1e-9)


def test_whole_prediction(model, library, image):
    explanation = explain(model, image, library)
    logits = model(image[None])[0].detach()
    best = int(logits.argmax())
    assert [score.index for score in explanation.classes] == logits.argsort(descending=True).tolist()
    assert (explanation.target.index, explanation.target.name) == (best, NAMES[best])
    assert explanation.target.probability == pytest.approx(logits.softmax(0)[best].item(), rel=1e-9)
    result = CondAttribution(model)(image[None], [{"y": [best]}], composite_for(model).composite)
    assert_relevance_close(explanation.heatmap, result.heatmap[0], FLOAT32)
    assert explanation.absorbed == pytest.approx(1 - result.heatmap.sum().item() / logits[best].item(), abs=1e-9)
    assert np.array_equal(explanation.picture, Pictures.preprocessing.to_picture(image))


def test_concept_map_is_brute_force(model, library, image):
    """Each cell holds the concept, of all, with the largest positive relevance in it; faint cells stay blank."""
    explanation = explain(model, image, library, layers=["3"], target=0, cells=4)
    (layer,) = explanation.layers
    _, heatmaps = by_hand(model, image, "3", 0, 8)
    assert layer.concept_map.concept.shape == (3, 4)
    table = heatmaps.reshape(8, 3, 4, 4, 4).sum((2, 4))
    strongest, winner = table.max(0), table.argmax(0)
    faint = strongest <= 0.02 * strongest.max()
    assert np.array_equal(layer.concept_map.concept, np.where(faint, -1, winner))
    assert_relevance_close(layer.concept_map.relevance, np.where(faint, 0, strongest), FLOAT32)


def test_layer_without_space_has_no_map(model, library, image):
    assert [layer.concept_map is None for layer in explain(model, image, library).layers] == [True, False, False]


def test_concept_map_without_linear_rules(model, image, tmp_path):
    """Rules that clamp have no way up; the table comes from every concept's own heatmap."""
    composite = LayerMapComposite([(nn.ReLU, ReLUGuidedBackprop()), (Linear, Epsilon())])
    library = mined(tmp_path, model, composite=composite)
    (layer,) = explain(model, image, library, layers=["3"], target=0, cells=4, composite=composite).layers
    heatmaps = CondAttribution(model)(image[None], [{"3": [c], "y": [0]} for c in range(8)], composite).heatmap
    table = heatmaps.numpy().reshape(8, 3, 4, 4, 4).sum((2, 4))
    shown = layer.concept_map.concept >= 0
    assert np.array_equal(layer.concept_map.concept[shown], table.argmax(0)[shown])


def test_patches_come_from_the_library(model, library, image):
    part = explain(model, image, library, layers=["3"], patches=1).layers[0].ranked[0]
    references = library.references("3", "relevance")
    assert [patch.sample for patch in part.relevance_patches] == [references.sample[part.concept, 0]]


@pytest.mark.parametrize(
    ("sizes", "cells", "expected"),
    [
        (((13, 13), (224, 224)), None, (8, 8)),
        (((13, 13), (224, 224)), 50, (13, 13)),
        (((4, 8), (64, 128)), 6, (3, 6)),
        (((1, 1), (32, 32)), None, (1, 1)),
    ],
)
def test_grid(sizes, cells, expected):
    assert grid_of(*sizes, cells) == expected


def test_picture_file_and_array(tmp_path):
    """A picture goes through the library's preprocessing, to float32, however it is given."""
    from PIL import Image

    model = network().float()
    library = mined(tmp_path, model)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    ways = [tmp_path / "picture.png", str(tmp_path / "picture.png"), pixels, Image.fromarray(pixels)]
    heatmaps = [explain(model, way, library, layers=["3"]).heatmap for way in ways]
    for heatmap in heatmaps[1:]:
        assert np.array_equal(heatmap, heatmaps[0])


def test_nothing_started_nothing_arrives(tmp_path):
    """A logit of exactly zero has no relevance to share: no concept is shown, coverage is undefined."""
    model = network()
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    library = mined(tmp_path, model)
    explanation = explain(model, torch.ones(3, 12, 16, dtype=torch.float64), library)
    assert [len(layer.ranked) for layer in explanation.layers] == [0, 0, 0]
    assert all(math.isnan(layer.coverage) and layer.rest == 0 for layer in explanation.layers)


class PairConcept:
    """Two neighbouring channels are one concept: another kind, with the same interface."""

    def size(self, shape):
        return shape[0] // 2

    def _pairs(self, values):
        return values[:, : 2 * (values.shape[1] // 2)].unflatten(1, (-1, 2))

    def masked(self, relevance, ids):
        channels = [[channel for pair in group for channel in (2 * pair, 2 * pair + 1)] for group in ids]
        return ChannelConcept().masked(relevance, channels)

    def at_positions(self, relevance, ids, positions):
        first = ChannelConcept().at_positions(relevance, 2 * ids, positions)
        return first + ChannelConcept().at_positions(relevance, 2 * ids + 1, positions)

    def total(self, values):
        return self._pairs(ChannelConcept().total(values)).sum(-1)

    def peak(self, values):
        return ChannelConcept().peak(self._pairs(values).sum(2))


def test_another_kind_of_concept(model, image, tmp_path):
    """Mined and explained by its interface alone; the library says which kind it holds."""
    pairs = PairConcept()
    library = mined(tmp_path, model, concept=pairs)
    assert library.references("3", "activation").sample.shape == (4, 3)
    (layer,) = explain(model, image, library, layers=["3"], target=0, cells=4, concept=pairs).layers
    relevance, heatmaps = by_hand(model, image, "3", 0, 8)
    pair_relevance, pair_heatmaps = relevance.reshape(4, 2).sum(1), heatmaps.reshape(4, 2, 12, 16).sum(1)
    for part in layer.ranked:
        assert part.share == pytest.approx(pair_relevance[part.concept] / np.abs(pair_relevance).sum(), rel=1e-9)
        assert_relevance_close(part.heatmap, pair_heatmaps[part.concept], FLOAT32)
    table = pair_heatmaps.reshape(4, 3, 4, 4, 4).sum((2, 4))
    shown = layer.concept_map.concept >= 0
    assert np.array_equal(layer.concept_map.concept[shown], table.argmax(0)[shown])
    with pytest.raises(LibraryError, match=r"concepts of the kind PairConcept, given ChannelConcept\.$"):
        explain(model, image, library)




@pytest.mark.parametrize("layer", ["0", "3"])
def test_the_table_of_cells_is_brute_force(model, image, layer):
    """Every concept in every cell, each concept carried down by itself; 1e-9 in float64."""
    data = image[None]
    with RelevanceFlow(model, composite_for(model).composite, data, [layer]) as flow:
        arriving = flow.down(flow.output_relevance([1]), to=layer)[0]
        table = concepts_in_cells(flow, layer, arriving, 3, 4)
    count = arriving.shape[1]
    conditions = [{layer: [c], "y": [1]} for c in range(count)]
    heatmaps = CondAttribution(model)(data, conditions, composite_for(model).composite).heatmap
    expected = heatmaps.reshape(count, 3, 4, 4, 4).sum((2, 4)).reshape(count, 12).T
    assert_relevance_close(table, expected, 1e-9)


def test_the_map_keeps_the_whole_table(model, library, image):
    (layer,) = explain(model, image, library, layers=["3"], target=0, cells=4).layers
    relevance, heatmaps = by_hand(model, image, "3", 0, 8)
    table = heatmaps.reshape(8, 3, 4, 4, 4).sum((2, 4)).transpose(1, 2, 0)
    assert_relevance_close(layer.concept_map.table, table, FLOAT32)
    region = np.zeros((3, 4), dtype=bool)
    region[1:, :2] = True
    ranked = dict(layer.concept_map.ranking(region))
    assert_relevance_close(np.array([ranked.get(c, 0.0) for c in range(8)]), table[region].sum(0), FLOAT32)
    assert_relevance_close(layer.relevance, relevance, 1e-9)


def test_the_difference_of_two_classes(model, library, image):
    """Why this and not that: relevance of the one minus relevance of the other, for every concept and everywhere."""
    explanation = explain(model, image, library, target="ant", against="cat")
    other, difference = explanation.beside
    assert (explanation.target.name, explanation.against) == ("ant", None)
    assert (other.target.name, other.against) == ("cat", None)
    assert (difference.target.name, difference.against.name) == ("ant", "cat")
    for one, two, both in zip(explanation.layers, other.layers, difference.layers, strict=True):
        assert_relevance_close(both.relevance, one.relevance - two.relevance, 1e-9)
        shares = both.relevance / np.abs(both.relevance).sum()
        assert [part.share for part in both.ranked] == pytest.approx([shares[part.concept] for part in both.ranked])
        if both.concept_map is not None:
            assert_relevance_close(both.concept_map.table, one.concept_map.table - two.concept_map.table, FLOAT32)
    assert_relevance_close(difference.heatmap, explanation.heatmap - other.heatmap, FLOAT32)
    assert difference.graph.root.relevance == pytest.approx(difference.target.logit - difference.against.logit)
    assert difference.graph.root.name == "ant − cat"


def test_the_graph_is_the_composed_one(model, library, image):
    explanation = explain(model, image, library, target=2)
    graph = compose(
        model, image[None], LAYERS, target=2, coverage=0.9, breadth=8, library=library
    )
    assert graph_numbers(explanation.graph) == graph_numbers(graph)
    for one, other in zip(explanation.graph.nodes, graph.nodes, strict=True):
        assert_relevance_close(one.heatmap, other.heatmap, FLOAT32)
    assert explain(model, image, library, graph=False).graph is None


def test_users_and_glimpses_come_from_the_library(model, library, image):
    (layer,) = explain(model, image, library, layers=["3"], concepts=1, target=0).layers
    statistics = library.statistics("3").share
    for part in layer.ranked:
        shares = statistics[:, part.concept]
        used = sorted((i for i in range(3) if shares[i] > 0), key=lambda i: -shares[i])
        assert [(use.index, use.name) for use in part.classes] == [(i, NAMES[i]) for i in used]
        assert [use.share for use in part.classes] == [statistics[i, part.concept] for i in used]
    cards = {part.concept for part in layer.ranked}
    anywhere = set(np.flatnonzero(np.abs(layer.concept_map.table).sum((0, 1)) > 0).tolist())
    assert set(layer.glimpses) <= anywhere - cards
    # eight concepts, six named in each cell: whatever a single cell ranks among its six has a patch or a card
    for cell in layer.concept_map.table.reshape(-1, 8):
        assert {int(c) for c in np.argsort(-np.abs(cell))[:6] if cell[c]} <= set(layer.glimpses) | cards
    references = library.references("3", "relevance").sample
    assert all(patch.sample == references[concept, 0] for concept, patch in layer.glimpses.items())


@pytest.mark.parametrize("composite", [None, LayerMapComposite([(Linear, Epsilon())])], ids=["default", "given"])
def test_a_model_prepared_once_is_explained_as_any_other(model, image, tmp_path, monkeypatch, composite):
    library = mined(tmp_path, model, composite=composite)
    images = [image, image.flip(1)]
    expected = [to_json(explain(model, data, library, composite=composite, against="cat", target=0)) for data in images]
    made = []
    for name in ("prepare", "weights_fingerprint"):
        kept = getattr(preparing, name)
        monkeypatch.setattr(preparing, name, lambda *given, name=name, kept=kept: made.append(name) or kept(*given))
    ready = crp.prepared(model, composite)
    found = [to_json(explain(ready, data, library, against="cat", target=0)) for data in images]
    assert found == expected
    assert made == ["weights_fingerprint", "prepare"]
