"""Conditional attributions with the names of zennit-crp: its attribution tutorial, as a script.

Without arguments it explains a scene with the built-in model:

    python zennit_crp_attributions.py

With the weights of torchvision's SqueezeNet 1.1 (a .safetensors or .pth file) it explains a photo:

    python zennit_crp_attributions.py --weights squeezenet1_1.safetensors --photo lizard.jpg --pictures out

Everything imported from `crp` here also exists in zennit-crp, except the built-in model and scene.
"""

import argparse
from pathlib import Path

import torch
from torch import nn

# crp first: it makes zennit importable with a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import AttributionGraph, CondAttribution
from crp.concepts import ChannelConcept
from crp.graph import trace_model_graph
from crp.helper import abs_norm, get_layer_names
from zennit.composites import EpsilonPlusFlat


def photo(weights, path):
    """Return model, input, and two of its layers, the higher one first."""
    from torchvision import models, transforms

    model = models.squeezenet1_1(weights=None)
    if weights.endswith(".safetensors"):
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    else:
        model.load_state_dict(torch.load(weights, weights_only=True))
    from PIL import Image

    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with Image.open(path) as image:
        return model.eval(), prepare(image.convert("RGB"))[None], ["features.12.squeeze", "features.10.squeeze"]


def scene():
    """Return the same for the built-in model and scenes."""
    from crp.demo import Scenes, demo_model

    return demo_model(), Scenes("test", 10)[9][0][None], ["conv5", "conv4"]


def analyse(model, sample, layers, save):
    """Run all steps of the tutorial; `save(name, heatmaps)` stores pictures, the numbers to print are returned."""
    sample.requires_grad = True
    composite, attribution, channels = EpsilonPlusFlat(), CondAttribution(model), ChannelConcept()
    high, low = layers
    numbers = {}

    # One class: the ordinary heatmap.
    attr = attribution(sample, [{"y": [0]}], composite, record_layer=layers)
    target = int(attr.prediction.argmax())
    attr = attribution(sample, [{"y": [target]}], composite, record_layer=layers)
    numbers["class"] = target
    numbers["logit"] = float(attr.prediction[0, target])
    numbers["arrived"] = float(attr.heatmap.sum())
    save("class", attr.heatmap)

    # Recording: relevance of a layer, and its most relevant channels.
    relevance = channels.attribute(attr.relevances[high], abs_norm=True)[0]
    best = torch.argsort(relevance, descending=True)[:6].tolist()
    numbers["channels"] = {channel: float(relevance[channel]) for channel in best}

    # Broadcasting: one sample under several conditions gives one heatmap per condition.
    conditions = [{high: [channel], "y": [target]} for channel in best]
    attr = attribution(sample, conditions, composite)
    numbers["heatmaps"] = list(attr.heatmap.shape)
    save("channels", attr.heatmap)

    # Several channels at once, and several layers, from the output down.
    arrived = channels.attribute(attribution(sample, conditions[:1], composite, [low]).relevances[low])[0]
    below = torch.argsort(arrived, descending=True)[:3].tolist()
    several = [{high: best[:3], "y": [target]}, {high: best[:1], low: below, "y": [target]}]
    attr = attribution(sample, several, composite)
    numbers["several"] = [float(heatmap.sum()) for heatmap in attr.heatmap]

    # Relevance initialisation: a number instead of the logit, a tensor, a function, or another layer to start from.
    ones = attribution(sample, [{"y": [target]}], composite, init_rel=1).heatmap
    start = torch.zeros_like(attr.prediction[:1])
    start[0, target] = 1
    tensor = attribution(sample, [{}], composite, init_rel=start).heatmap
    softmax = attribution(sample, [{"y": [target]}], composite, init_rel=lambda logits: logits.softmax(1)).heatmap
    hidden = attribution(sample, [{high: best[:1]}], composite, start_layer=high)
    numbers["one, tensor, softmax"] = [float(heatmap.sum()) for heatmap in (ones, tensor, softmax)]
    numbers["start layer"] = list(hidden.prediction.shape)

    # The generator, for many conditions: they share one forward pass, and results come batch by batch.
    # Local analysis: which channels are relevant inside a region? Here the middle of the picture.
    rows, columns = sample.shape[2] // 4, sample.shape[3] // 4
    region = torch.zeros(sample.shape[2:])
    region[rows:-rows, columns:-columns] = 1
    conditions = [{high: [channel], "y": [target]} for channel in range(len(relevance))]
    inside = [
        (attr.heatmap * region).sum((1, 2))
        for attr in attribution.generate(sample, conditions, composite, batch_size=16, verbose=False)
    ]
    inside = abs_norm(torch.cat(inside))
    local = torch.argsort(inside, descending=True)[:3].tolist()
    numbers["in the region"] = {channel: float(inside[channel]) for channel in local}

    # Decomposition: what is the most relevant channel made of, one layer below?
    attr = attribution(sample, [{high: best[:1], "y": [target]}], composite, record_layer=[low])
    parts = channels.attribute(attr.relevances[low], abs_norm=True)[0]
    strongest = torch.argsort(parts, descending=True)[:3].tolist()
    numbers["made of"] = {channel: float(parts[channel]) for channel in strongest}

    # The same along the model's own connections, level by level: an attribution graph.
    names = get_layer_names(model, [nn.Conv2d, nn.Linear])
    graph = trace_model_graph(model, sample.detach(), names)
    decompose = AttributionGraph(attribution, graph, dict.fromkeys(names, channels))
    nodes, connections = decompose(sample, composite, best[0], high, target, width=[4, 2], verbose=False)
    numbers["feeds"] = graph.find_input_layers(high)
    numbers["nodes"] = nodes
    numbers["edges"] = connections
    return numbers


def main():
    """Run the tutorial on a photo or on the built-in scene."""
    parser = argparse.ArgumentParser(description="zennit-crp's attribution tutorial.")
    parser.add_argument("--weights", help="weights of SqueezeNet 1.1; without them the built-in model is used")
    parser.add_argument("--photo", help="a picture to explain with SqueezeNet")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the heatmaps")
    arguments = parser.parse_args()
    if (arguments.weights is None) != (arguments.photo is None):
        parser.error("give --weights and --photo together, or neither")

    def save(name, heatmaps):
        if arguments.pictures:
            from crp.image import imgify

            arguments.pictures.mkdir(parents=True, exist_ok=True)
            imgify(heatmaps, symmetric=True, grid=(1, len(heatmaps))).save(arguments.pictures / f"{name}.png")

    explained = photo(arguments.weights, arguments.photo) if arguments.weights else scene()
    for name, number in analyse(*explained, save).items():
        print(f"{name}: {number}")


if __name__ == "__main__":
    main()
