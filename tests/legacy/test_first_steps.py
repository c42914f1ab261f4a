"""The calls of zennit-crp's README and of its two tutorials, in their order and with their kinds of arguments.

Retyped, not copied: github.com/rachtibat/zennit-crp, README.md and tutorials/ (Clear BSD licence). A narrow VGG stands
in for the pretrained one, random samples for ImageNet.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.models.vgg import make_layers
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import EpsilonPlusFlat

from crp.attribution import AttributionGraph, CondAttribution
from crp.cache import ImageCache
from crp.concepts import ChannelConcept
from crp.graph import trace_model_graph
from crp.helper import abs_norm, get_layer_names, get_output_shapes, load_maximization, max_norm
from crp.image import imgify, plot_grid, vis_opaque_img
from crp.visualization import FeatureVisualization
from tests.oracle.comparing import assert_relevance_close

# vgg16_bn's layers, so that the names of the README are right: 'features.27' has a channel 50
NARROW = (4, 4, "M", 8, 8, "M", 8, 8, 8, "M", 8, 64, 8, "M", 8, 8, 12, "M")


class NarrowVGG(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = make_layers(NARROW, batch_norm=True)
        self.classifier = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, data):
        return self.classifier(self.features(data).mean((2, 3)))


@pytest.fixture
def model(monkeypatch, tmp_path):
    def vgg16_bn(pretrained=False, **options):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return NarrowVGG().double()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchvision.models, "vgg16_bn", vgg16_bn)
    model = torchvision.models.vgg16_bn(True).to("cpu")
    model.eval()
    return model


def samples(count):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 32, 32, generator=generator, dtype=torch.float64)


def test_the_readme(model):
    data, dataset = samples(1).requires_grad_(), TensorDataset(samples(6), torch.tensor([0, 1, 2, 3, 0, 1]))
    composite = EpsilonPlusFlat([SequentialMergeBatchNorm()])
    attribution = CondAttribution(model)
    cc = ChannelConcept()
    layer_names = get_layer_names(model, [nn.Conv2d, nn.Linear])
    attr = attribution(data, [{"features.27": [50], "y": [1]}], composite, record_layer=layer_names)
    assert attr.heatmap.shape == (1, 32, 32)
    assert attr.prediction.shape == (1, 4)
    assert attr.activations.keys() == attr.relevances.keys() == set(layer_names)
    attr = attribution(data, [{"y": [1]}], composite, record_layer=layer_names)
    rel_c = cc.attribute(attr.relevances["features.40"])
    assert float(rel_c.abs().sum()) == pytest.approx(1, rel=1e-6)
    concept_ids = torch.argsort(rel_c, descending=True)
    assert concept_ids.shape == (1, 12)

    layer_map = {(name, cc) for name in layer_names}  # a set of pairs, as it is written there
    fv = FeatureVisualization(attribution, dataset, layer_map)
    fv.run(composite, 0, len(dataset))
    ref_c = fv.get_max_reference(concept_ids[:5], "features.40", "relevance", composite=composite)
    # the first axis is the sample's, so these are all twelve channels
    assert list(ref_c) == concept_ids[0].tolist()
    assert [len(images) for images in ref_c[int(concept_ids[0, 0])]] == [6, 6]
    plot_grid(ref_c)
    plt.close("all")


def test_the_tutorial_on_attributions(model):
    mask_fn = ChannelConcept().mask(0, [0, 2])
    assert mask_fn(torch.ones((2, 4, 2, 2)))[:, :, 0, 0].tolist() == [[1, 0, 1, 0], [1, 1, 1, 1]]

    sample = samples(1)
    sample.requires_grad = True
    composite, cc = EpsilonPlusFlat([SequentialMergeBatchNorm()]), ChannelConcept()
    attribution = CondAttribution(model, no_param_grad=True)
    layer_names = get_layer_names(model, [nn.Conv2d, nn.Linear])
    conditions = [{"features.40": [3], "y": [2]}]
    attr = attribution(sample, conditions, composite)
    assert torch.equal(attr[0], attr.heatmap)
    whole = [attribution(sample, [{"y": y}], composite, mask_map=cc.mask).heatmap for y in (2, [2])]
    assert torch.equal(*whole)
    for mask_map in (cc.mask, dict.fromkeys(layer_names, cc.mask)):
        assert torch.equal(attribution(sample, conditions, composite, mask_map=mask_map).heatmap, attr.heatmap)
    conditions = [{"features.40": [3], "y": [2]}, {"features.20": [1, 5], "y": [0]}]
    heatmaps, _, _, _ = attribution(sample, conditions, composite)
    assert torch.equal(heatmaps[0], attr.heatmap[0])
    imgify(heatmaps, symmetric=True, grid=(1, len(heatmaps))).save("broadcast.png")

    # relevance initialisation
    logits = attribution(sample, [{"y": [2]}], composite).heatmap
    ones = attribution(sample, [{"y": [2]}], composite, init_rel=1).heatmap
    assert_relevance_close(ones * attr.prediction[0, 2], logits, 1e-9)
    softmax = attribution(sample, [{"y": [2]}], composite, init_rel=lambda out: torch.softmax(out, 1)).heatmap
    assert_relevance_close(softmax, ones * attr.prediction[0].softmax(0)[2], 1e-9)
    negative = attribution(sample, [{"y": [2]}], composite, init_rel=-1).heatmap
    assert_relevance_close(negative, -ones, 1e-9)

    def select_max(pred):
        id = torch.nn.Softmax(dim=-1)(pred).argmax(-1).item()
        mask = torch.zeros_like(pred)
        mask[0, id] = pred[0, id]
        return mask

    best = attribution(sample, [{"features.40": [3]}], composite, init_rel=select_max).heatmap
    named = attribution(sample, [{"features.40": [3], "y": [int(attr.prediction.argmax())]}], composite).heatmap
    assert_relevance_close(best, named, 1e-9)
    start = attribution(sample, [{"features.40": [3]}], composite, start_layer="features.40")
    assert start.prediction.shape[1] == 12

    # recorded layers, the strongest channels, several layers
    attr = attribution(sample, [{"y": [2]}], composite, record_layer=layer_names)
    rel_c = cc.attribute(attr.relevances["features.40"], abs_norm=True)
    rel_values, concept_ids = torch.topk(rel_c[0], 3)
    assert rel_values[0] == rel_c.max()
    chain = [{"features.40": concept_ids, "features.34": [0, 4], "y": 2}, {"features.40": concept_ids[0], "y": [2]}]
    found = attribution(sample, chain, composite).heatmap
    listed = [{**chain[0], "features.40": concept_ids.tolist()}, {**chain[1], "features.40": [int(concept_ids[0])]}]
    assert torch.equal(found, attribution(sample, listed, composite).heatmap)

    # a module that is no layer of `layer_names`; later layers first
    chain = [{"features.40": [3], "features.36": [4], "y": [2]}]
    apart = attribution(sample, chain, composite, exclude_parallel=True).heatmap
    assert torch.equal(apart, attribution(sample, chain, composite).heatmap)
    assert not torch.equal(apart, attr.heatmap)

    # the generator, and a region
    mask = torch.zeros(32, 32).to(attribution.device)
    mask[10:30, 10:30] = 1
    assert imgify(mask, symmetric=True).size == (32, 32)
    conditions = [{"features.40": [id], "y": [2]} for id in torch.arange(0, 12)]
    inside = []
    for attr in attribution.generate(sample, conditions, composite, record_layer=layer_names, batch_size=5):
        inside.append(torch.sum(attr.heatmap * mask, dim=(1, 2)))
    inside = torch.cat(inside)
    assert inside.shape == (12,)
    assert_relevance_close(abs_norm(inside, 0), inside / inside.abs().sum(), 1e-9)
    assert float(max_norm(inside, 0).max()) == 1
    indices = torch.topk(inside, 2).indices
    heatmap, _, _, _ = attribution(sample, [{"features.40": [i], "y": [2]} for i in indices], composite)
    assert_relevance_close((heatmap * mask[None, :, :]).sum((1, 2)), inside[indices], 1e-9)

    # the graph
    graph = trace_model_graph(model, sample, layer_names)
    assert "features.37" in str(graph)
    assert graph.find_input_layers("features.40") == ["features.37"]
    attgraph = AttributionGraph(attribution, graph, dict.fromkeys(layer_names, cc))
    nodes, connections = attgraph(sample, composite, int(concept_ids[0]), "features.40", 2, width=[5, 2], abs_norm=True)
    assert nodes[0] == ("features.40", int(concept_ids[0]))
    assert len(connections["features.40", int(concept_ids[0])]) == 5
    assert len(nodes) <= 1 + 5 + 10


def test_the_tutorial_on_feature_visualization(model):
    dataset = TensorDataset(samples(12), torch.arange(12) % 3)
    attribution, composite = CondAttribution(model), EpsilonPlusFlat([SequentialMergeBatchNorm()])
    layer_map = {layer: ChannelConcept() for layer in get_layer_names(model, [nn.Conv2d, nn.Linear])[-4:]}
    assert list(layer_map) == ["features.37", "features.40", "classifier.0", "classifier.2"]
    preprocessing = torchvision.transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    fv = FeatureVisualization(attribution, dataset, layer_map, preprocess_fn=preprocessing, path="VGG16_ImageNet")
    saved_files = fv.run(composite, 0, len(dataset), 5, 2)
    assert {name: len(files) for name, files in saved_files.items()} == {
        "r_max": 4, "a_max": 4, "r_stats": 12, "a_stats": 12
    }  # fmt: skip
    d_c_sorted, rel_c_sorted, _ = load_maximization(fv.RelMax.PATH, "features.40")
    assert d_c_sorted.shape == (12, 12)
    assert (np.diff(rel_c_sorted, axis=0) <= 0).all()

    data, target = fv.get_data_sample(3, preprocessing=True)
    attr = attribution(data, [{"y": target}], composite, record_layer=["features.40"])  # a 0-d tensor
    concept_ids = torch.topk(ChannelConcept().attribute(attr.relevances["features.40"])[0], 2).indices
    first, second = concept_ids.tolist()
    best = dict(zip((first, second), d_c_sorted[:4, [first, second]].T.tolist(), strict=True))

    # samples alone, samples with heatmaps, and pictures of them
    plain = fv.get_max_reference([first, second], "features.40", "relevance", (0, 4))
    assert all(torch.equal(plain[concept], dataset.tensors[0][best[concept]]) for concept in best)
    plot_grid(plain, figsize=(6, 5), padding=False)
    raw = fv.get_max_reference([first, second], "features.40", "relevance", (0, 4), composite=composite, plot_fn=None)
    assert all(torch.equal(raw[concept][0], plain[concept]) for concept in best)
    assert [raw[concept][1].shape for concept in best] == [(4, 32, 32)] * 2
    plot_grid(raw, figsize=(6, 9))
    whole = fv.get_max_reference([first, second], "features.40", "relevance", (0, 4), composite=composite,
                                 plot_fn=vis_opaque_img)  # fmt: skip
    assert {image.size for images in whole.values() for image in images} == {(32, 32)}
    plot_grid(whole, cmap="bwr", symmetric=True, figsize=(6, 5))
    for mode in ("relevance", "activation"):
        drawn = fv.get_max_reference(concept_ids, "features.40", mode, (0, 4), rf=True, composite=composite,
                                     plot_fn=vis_opaque_img)  # fmt: skip
        assert [len(images) for images in drawn.values()] == [4, 4]
        plot_grid(drawn, figsize=(6, 5), padding=False)

    targets, values = fv.compute_stats(concept_ids[0], "features.40", "relevance", top_N=2, norm=True)
    assert float(values[0]) == 1
    stats = fv.get_stats_reference(concept_ids[0], "features.40", targets, "relevance", (0, 2), composite=composite,
                                   rf=True, plot_fn=vis_opaque_img)  # fmt: skip
    assert list(stats) == [f"{first}:{target}" for target in targets]
    plot_grid(stats, figsize=(6, 5), padding=False)

    # a second object with a cache, which reads what the first has mined
    fv = FeatureVisualization(attribution, dataset, layer_map, preprocess_fn=preprocessing, path="VGG16_ImageNet",
                              cache=ImageCache(path="cache"))  # fmt: skip
    cached = [
        fv.get_max_reference([first, second], "features.40", "relevance", (0, 4), rf=True, composite=composite)
        for _ in range(2)
    ]
    images, heatmaps = cached[0][first]
    assert (len(images), len(heatmaps)) == (4, 4)
    for again, drawn in zip(cached[1][first], cached[0][first], strict=True):
        assert [image.tobytes() for image in again] == [image.tobytes() for image in drawn]
    before = len(list(fv.Cache.path.rglob("*.png")))
    assert before == 2 * 2 * 4  # two concepts, four samples, each with its heatmap
    shapes = get_output_shapes(model, fv.get_data_sample(0)[0], ["features.37"])
    layer_id_map = {layer: np.arange(0, shape[0]) for layer, shape in shapes.items()}
    fv.precompute_ref(layer_id_map, plot_list=[vis_opaque_img], mode="relevance", r_range=(0, 16), composite=composite,
                      rf=True, batch_size=32, stats=False)  # fmt: skip
    assert len(list(fv.Cache.path.rglob("*.png"))) == before + 8 * 12  # of twelve samples, sixteen are asked for
    plt.close("all")
