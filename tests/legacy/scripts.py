"""Code written for zennit-crp, run twice: by make_golden.py against its wheel, by the tests against ours.

Each function returns what it found by name: tensors, or values that JSON can hold. Nothing here knows which of the two
packages it imports.
"""

from __future__ import annotations

import types

import numpy as np
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat, NameMapComposite

from crp.attribution import AttributionGraph, CondAttribution
from crp.concepts import ChannelConcept, Concept
from crp.graph import trace_model_graph
from crp.helper import abs_norm, get_layer_names, get_output_shapes, max_norm
from crp.hooks import FeatVisHook, MaskHook
from tests.oracle.nets import SkipNet, plain_net, with_random_weights


def skip_net():
    """A net in which each of our samples activates every channel: so no recorded relevance is zero."""
    return with_random_weights(SkipNet(), 106)


def data(count=1):
    noise = torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    return noise.requires_grad_()


# -- CondAttribution -------------------------------------------------------------------------------------------


def attributions():
    """Broadcasting, relevance initialisation, recording, several layers."""
    attribution, composite = CondAttribution(skip_net()), EpsilonPlusFlat()
    one = [{"conv2": [1], "y": [0]}]
    asked = {
        "class": (1, [{"y": [2]}], {"record_layer": ["conv1", "conv3", "linear"]}),
        "pairs": (2, [{"conv3": [0], "y": [1]}, {"conv3": [2], "y": [0]}], {"record_layer": ["conv1"]}),
        "product": (2, [{"conv3": [c], "y": [1]} for c in range(3)], {"record_layer": ["conv1"]}),
        "several layers": (1, [{"conv3": [0, 1], "conv2": [1, 3], "y": [1]}], {"record_layer": ["conv1"]}),
        "around": (1, one, {"exclude_parallel": False, "record_layer": ["conv1", "conv3"]}),
        "start layer": (1, [{"conv3": [1]}, {"conv3": [0, 2]}], {"start_layer": "conv3"}),
        "start layer, init": (1, [{"conv2": [1]}, {"conv2": [3]}], {"start_layer": "conv2", "init_rel": 1}),
        "init int": (1, one, {"init_rel": 1}),
        "init tensor": (1, one, {"init_rel": torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)}),
        "init function": (1, one, {"init_rel": lambda prediction: prediction.clamp(min=0) / 2}),
        "no class": (1, [{"conv2": [1]}], {"init_rel": lambda prediction: prediction}),
        "single position": (1, [{"conv3": {1: [5, 6]}, "y": [1]}], {"mask_map": ChannelConcept.mask_rf}),
        "masks by layer": (
            1,
            [{"conv3": {1: [5]}, "conv2": [0, 1], "y": [1]}],
            {"mask_map": {"conv3": ChannelConcept.mask_rf, "conv2": ChannelConcept.mask}},
        ),
        "plain gradient": (1, [{"conv3": [1], "y": [1]}], {"composite": None}),
    }
    found = {}
    for name, (count, conditions, options) in asked.items():
        result = attribution(data(count), conditions, **{"composite": composite, **options})
        found[f"{name}/heatmap"], found[f"{name}/prediction"] = result.heatmap, result.prediction
        for layer in options.get("record_layer", ()):
            found[f"{name}/{layer}"] = result.relevances[layer]
            found[f"{name}/activation/{layer}"] = result.activations[layer]
    return found


def generated():
    """The generator, with a last batch that is smaller."""
    attribution = CondAttribution(skip_net())
    conditions = [{"conv3": [c % 3], "conv2": [c % 4], "y": [c % 3]} for c in range(5)]
    parts = list(
        attribution.generate(
            data(), conditions, EpsilonPlusFlat(), record_layer=["conv1"], batch_size=2, verbose=False
        )
    )
    return {
        "sizes": [len(part.heatmap) for part in parts],
        "heatmap": torch.cat([part.heatmap for part in parts]),
        "conv1": torch.cat([part.relevances["conv1"] for part in parts]),
        "prediction": torch.cat([part.prediction for part in parts]),
    }


class Signed(CondAttribution):
    def heatmap_modifier(self, data, on_device=None):
        heatmap = data.grad.detach()
        return heatmap.to(on_device) if on_device else heatmap


class Margin(CondAttribution):
    """Starts from the logit of the class and minus half the other logits."""

    def relevance_init(self, prediction, target_list, init_rel):
        start = -prediction / 2
        for i, targets in enumerate(target_list):
            start[i, targets] = prediction[i, targets]
        return start


class Named(CondAttribution):
    def __init__(self, model):
        super().__init__(model)
        self.MODEL_OUTPUT_NAME = "class"


class Doubled(CondAttribution):
    def backward(self, pred, grad_mask, exclude_parallel, layer_names, layer_out, generate=False):
        super().backward(pred, 2 * grad_mask, exclude_parallel, layer_names, layer_out, generate)


class Positive(CondAttribution):
    """Drops negative relevance at each masked layer."""

    def backward(self, pred, grad_mask, exclude_parallel, layer_names, layer_out, generate=False):
        relevance = grad_mask.to(pred)
        for name in layer_names:
            relevance = torch.autograd.grad(pred, layer_out[name], relevance, retain_graph=True)[0].clamp(min=0)
            pred = layer_out[name]
        torch.autograd.backward(pred, relevance, retain_graph=generate)


class Product(CondAttribution):
    """Every sample with every condition, also where the numbers are equal."""

    def broadcast(self, data, conditions):
        rows = torch.repeat_interleave(data, len(conditions), dim=0)
        rows.retain_grad()
        return rows, conditions * len(data)


def subclasses():
    model, composite = skip_net(), EpsilonPlusFlat()
    conditions = [{"conv3": [0, 1], "conv2": [1, 2], "y": [1]}, {"conv3": [2], "conv2": [0, 3], "y": [0]}]
    found = {}
    for kind in (Signed, Margin, Doubled, Positive, Product):
        result = kind(model)(data(2), conditions, composite, record_layer=["conv1"])
        found[f"{kind.__name__}/heatmap"] = result.heatmap
        found[f"{kind.__name__}/conv1"] = result.relevances["conv1"]
    for kind in (Doubled, Positive):
        around = kind(model)(data(2), [{"conv2": [1, 2], "y": [1]}], composite, ["conv1"], exclude_parallel=False)
        found[f"{kind.__name__}/around"] = around.heatmap if kind is Doubled else around.prediction
        start = kind(model)(data(1), [{"conv3": [1], "conv2": [1, 2]}], composite, start_layer="conv3")
        found[f"{kind.__name__}/start"] = start.heatmap
        parts = kind(model).generate(data(1), conditions * 2, composite, batch_size=3, verbose=False)
        found[f"{kind.__name__}/generate"] = torch.cat([part.heatmap for part in parts])
    found["Named"] = Named(model)(data(), [{"conv2": [1], "class": [2]}], composite).heatmap
    return found


class GradTimesInput(CondAttribution):
    """Needs the values of the input beside their relevance."""

    def heatmap_modifier(self, data, on_device=None):
        return (data.detach() * data.grad.detach()).sum(1)


def input_in_heatmaps():
    """`heatmap_modifier` sees the input of each row."""
    attribution, composite = GradTimesInput(skip_net()), EpsilonPlusFlat()
    conditions = [{"conv3": [0, 2], "y": [1]}, {"conv3": [1], "y": [2]}, {"conv3": [2], "y": [0]}]
    parts = attribution.generate(data(), conditions, composite, batch_size=2, verbose=False)
    return {
        "pairs": attribution(data(3), conditions, composite).heatmap,
        "product": attribution(data(2), conditions, composite).heatmap,
        "generate": torch.cat([part.heatmap for part in parts]),
        "gradient": attribution(data(2), [{"y": [1]}], None).heatmap,
    }


def replaced_on_objects():
    """The methods that subclasses override, put on one object."""

    def doubled(self, pred, grad_mask, partial_backward, layer_names, layer_out, generate=False):
        torch.autograd.backward((pred,), (2 * grad_mask.to(pred),), retain_graph=generate)

    def product(data, conditions):
        return Product.broadcast(None, data, conditions)

    found = {}
    for name, method in {
        "backward": doubled,
        "relevance_init": Margin.relevance_init,
        "heatmap_modifier": GradTimesInput.heatmap_modifier,
    }.items():
        attribution = CondAttribution(skip_net())
        setattr(attribution, name, types.MethodType(method, attribution))
        result = attribution(data(2), [{"y": [1]}, {"y": [2]}], EpsilonPlusFlat(), ["conv2"])
        found[f"{name}/heatmap"], found[f"{name}/conv2"] = result.heatmap, result.relevances["conv2"]
    attribution = CondAttribution(skip_net())
    attribution.broadcast = product
    found["broadcast"] = attribution(data(2), [{"y": [1]}, {"y": [2]}], EpsilonPlusFlat()).heatmap
    return found


def ids():
    """Classes and concepts in every form that means the same in both."""
    attribution, composite = CondAttribution(skip_net()), EpsilonPlusFlat()
    scores = torch.tensor([0.0, 3.0, 1.0, 2.0])
    forms = {
        "int": 1,
        "numpy.int64": np.int64(2),
        "0-d tensor": scores.argmax(),
        "0-d array": np.array(2),
        "list": [2, 0],
        "negative": [-1],
        "topk": scores.topk(2).indices,
        "topk of one": scores[None].topk(2).indices,
        "array": np.array([0, 2]),
        "bool tensor": scores > 1.5,
        "bool array": scores.numpy() > 1.5,
        "bool list": [False, True, False, True],
        "slice": slice(1, 3),
        "empty": [],
    }
    found = {}
    for name, value in forms.items():
        heatmap = attribution(data(), [{"conv2": value, "y": 1}], composite).heatmap
        found["layer/empty of zero" if name == "empty" else f"layer/{name}"] = heatmap
    classes = {
        "int": 1,
        "numpy.int64": np.int64(2),
        "0-d tensor": torch.tensor(2),
        "argmax of a batch": torch.tensor([[0.0, 1.0, 0.5]]).argmax(1),
        "list": [2, 0],
        "array": np.array([0, 2]),
        "bool tensor": torch.tensor([True, False, True]),
        "bool list": [False, True, False],
        "slice": slice(1, None),
    }
    for name, value in classes.items():
        found[f"y/{name}"] = attribution(data(), [{"conv2": [1], "y": value}], composite).heatmap
    position = attribution(
        data(), [{"conv3": {np.int64(1): torch.tensor([5, 6])}, "y": 1}], composite, mask_map=ChannelConcept.mask_rf
    )
    found["positions"] = position.heatmap
    return found


# -- concepts --------------------------------------------------------------------------------------------------


def channels():
    """Every method of ChannelConcept."""
    concept = ChannelConcept()
    relevance = torch.randn(5, 4, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    region = torch.zeros(3, 2, dtype=torch.float64)
    region[1:] = 1
    found = {
        "attribute": concept.attribute(relevance),
        "attribute, plain": concept.attribute(relevance, abs_norm=False),
        "attribute, region": concept.attribute(relevance, mask=region),
        "attribute, linear": concept.attribute(relevance[:, :, 0, 0], layer_name="fc"),
        "mask": ChannelConcept.mask(1, [0, 2])(relevance.clone()),
        "mask_rf": ChannelConcept.mask_rf(2, {0: [1, 5], 3: [0]}, "conv")(relevance.clone()),
        "positions": [int(index) for index in concept.get_rf_indices((4, 3, 2))],
        "positions, linear": [int(index) for index in concept.get_rf_indices((4,))],
    }
    for target in ("sum", "max"):
        for divided in (True, False):
            sampled = concept.reference_sampling(relevance, max_target=target, abs_norm=divided)
            for part, name in zip(sampled, ("samples", "scores", "positions"), strict=True):
                found[f"reference_sampling/{target}/{divided}/{name}"] = part
    return found


class PairConcept(Concept):
    """Two neighbouring channels are one concept."""

    def mask(self, batch_id, concept_ids, layer_name):
        channels = [channel for concept in concept_ids for channel in (2 * concept, 2 * concept + 1)]
        return ChannelConcept.mask(batch_id, channels, layer_name)

    def mask_rf(self, batch_id, c_n_map, layer_name):
        channels = {channel: ids for c, ids in c_n_map.items() for channel in (2 * c, 2 * c + 1)}
        return ChannelConcept.mask_rf(batch_id, channels, layer_name)

    def attribute(self, relevance, mask=None, layer_name=None, abs_norm=True):
        relevance = relevance if mask is None else relevance * mask
        totals = relevance.unflatten(1, (-1, 2)).flatten(2).sum(-1)
        return totals / (totals.abs().sum(-1, keepdim=True) + 1e-10) if abs_norm else totals

    def reference_sampling(self, relevance, layer_name=None, max_target="sum", abs_norm=True):
        values = relevance.unflatten(1, (-1, 2)).sum(2)
        return ChannelConcept().reference_sampling(values, layer_name, max_target, abs_norm)

    def get_rf_indices(self, output_shape, layer_name):
        return ChannelConcept().get_rf_indices(output_shape)


def own_concepts():
    """A concept of the user's own, in conditions and beside channels in `mask_map`."""
    pairs, attribution = PairConcept(), CondAttribution(skip_net())
    masks = {"conv2": pairs.mask, "conv3": ChannelConcept.mask}
    result = attribution(
        data(), [{"conv3": [0, 2], "conv2": [1], "y": [1]}], EpsilonPlusFlat(), ["conv1"], mask_map=masks
    )
    arrived = result.relevances["conv1"]
    return {
        "heatmap": result.heatmap,
        "attribute": pairs.attribute(arrived),
        "sampled": pairs.reference_sampling(arrived)[1],
    }


# -- graphs ----------------------------------------------------------------------------------------------------


def connections():
    """Which layers feed which, for all layers and for some."""
    found = {}
    for name, model in {"plain": plain_net().double(), "skip": skip_net()}.items():
        layers = get_layer_names(model, [nn.Conv2d, nn.Linear])
        graph = trace_model_graph(model, data().detach(), layers)
        found[name] = {layer: sorted(set(graph.find_input_layers(layer))) for layer in layers}
        some = trace_model_graph(model, data().detach(), layers[:1] + layers[2:])
        found[f"{name}, some"] = {layer: sorted(set(some.find_input_layers(layer))) for layer in layers}
    return found


def decompositions():
    """Attribution graphs; nodes and edges each once."""
    model = skip_net()
    layers = get_layer_names(model, [nn.Conv2d, nn.Linear])
    traced = trace_model_graph(model, data().detach(), layers)
    graph = AttributionGraph(CondAttribution(model), traced, dict.fromkeys(layers, ChannelConcept()))
    found = {}
    asked = {
        "target": {"concept_id": 1, "layer_name": "conv3", "target": 2, "width": [2, 2]},
        "start layer": {"concept_id": 0, "layer_name": "conv3", "width": [1, 2], "abs_norm": False},
        "linear": {"concept_id": 1, "layer_name": "linear", "width": [2, 2, 2], "batch_size": 2},
        # below its first level zennit-crp loses the concept here
        "parent": {"concept_id": 1, "layer_name": "conv3", "parent_c_id": 1, "parent_layer": "linear", "width": [3]},
    }
    for name, options in asked.items():
        result = graph(data(), EpsilonPlusFlat(), verbose=False, **options)
        found[f"{name}/nodes"] = sorted({(layer, int(concept)) for layer, concept in result.nodes})
        found[f"{name}/sources"] = sorted(result.connections)
        for source, edges in result.connections.items():
            once = {(layer, int(concept)): relevance for layer, concept, relevance in edges}
            key = f"{name}/{source[0]}:{source[1]}"
            found[f"{key}/to"] = sorted(once)
            found[f"{key}/relevance"] = torch.tensor([once[to] for to in sorted(once)], dtype=torch.float64)
    return found


# -- helper and hooks --------------------------------------------------------------------------------------------


def helpers():
    model, values = skip_net(), torch.tensor([1.0, -3.0, 0.5], dtype=torch.float64)
    shapes = get_output_shapes(model, data().detach(), ["conv1", "linear"])
    return {
        "names": get_layer_names(model, [nn.Conv2d, nn.Linear]),
        "relu": get_layer_names(model, [nn.ReLU]),
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "abs_norm": abs_norm(values),
        "max_norm": max_norm(values),
        "abs_norm of zero": abs_norm(0 * values),
    }


def masked_by_hooks():
    """MaskHook in a composite of the user's own, with a backward pass of the user's own."""
    model, sample = skip_net(), data()
    hook = MaskHook([ChannelConcept.mask(0, [0, 3]), lambda relevance: relevance * 2])
    composite = NameMapComposite([(["conv2"], hook)])
    with composite.context(model), EpsilonPlusFlat().context(model) as modified:
        output = modified(sample)
        (relevance,) = torch.autograd.grad(output, sample, output.detach())
    return {"relevance": relevance, "list after": len(hook.fn_list)}


def seen_by_hooks():
    """What a FeatVisHook hands to its FeatureVisualization."""

    class Recorder:
        def __init__(self):
            self.seen = {}

        def analyze_activation(self, act, layer_name, concept, data_indices, targets):
            self.seen["activation"] = act
            self.seen["of"] = [layer_name, type(concept).__name__, list(data_indices), list(targets)]

        def analyze_relevance(self, rel, layer_name, concept, data_indices, targets):
            self.seen["relevance"] = rel

    model, sample, recorder, inputs = skip_net(), data(2), Recorder(), {}
    hook = FeatVisHook(recorder, ChannelConcept(), "conv2", inputs, None)
    composite = NameMapComposite([(["conv2"], hook)])
    inputs["sample_indices"], inputs["targets"] = [4, 7], [0, 1]
    with composite.context(model), EpsilonPlusFlat().context(model) as modified:
        output = modified(sample)
        torch.autograd.grad(output, sample, output.detach())
    return recorder.seen


ALL = (
    attributions,
    generated,
    subclasses,
    input_in_heatmaps,
    replaced_on_objects,
    ids,
    channels,
    own_concepts,
    connections,
    decompositions,
    helpers,
    masked_by_hooks,
    seen_by_hooks,
)
