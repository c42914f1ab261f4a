r"""Feature visualisation with the names of zennit-crp: its tutorial, as a script.

Without arguments it mines built-in scenes with the built-in model:

    python zennit_crp_feature_visualization.py

With the weights of torchvision's SqueezeNet 1.1 (a .safetensors or .pth file) it mines photos: a folder of pictures,
and a JSON list of `{"file": ..., "class_index": ...}` that gives their classes.

    python zennit_crp_feature_visualization.py --weights squeezenet1_1.safetensors --photos imagenet_samples \
        --labels imagenet_samples/index.json --out out

Everything imported from `crp` here also exists in zennit-crp, except the built-in model and scenes.
"""

import argparse
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

# crp first: it makes zennit importable with a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import CondAttribution
from crp.cache import ImageCache
from crp.concepts import ChannelConcept
from crp.helper import load_maximization
from crp.image import imgify, plot_grid, vis_img_heatmap, vis_opaque_img
from crp.visualization import FeatureVisualization
from zennit.composites import EpsilonPlusFlat

# isort: on

MEAN, DEVIATION = (torch.tensor(each)[:, None, None] for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


class Photos(torch.utils.data.Dataset):
    """Pictures before normalisation, [3, 224, 224] from 0 to 1, with their classes."""

    def __init__(self, folder, labels):
        self.folder, self.entries = Path(folder), json.loads(Path(labels).read_text())

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, index):
        from PIL import Image
        from torchvision import transforms

        prepare = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor()])
        with Image.open(self.folder / self.entries[index]["file"]) as image:
            return prepare(image.convert("RGB")), self.entries[index]["class_index"]


def photos(weights, folder, labels):
    """Return model, data set, the function that turns its samples into model input, and layers."""
    from torchvision import models

    model = models.squeezenet1_1(weights=None)
    if weights.endswith(".safetensors"):
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    else:
        model.load_state_dict(torch.load(weights, weights_only=True))
    layers = ["features.12.expand3x3", "features.10.expand3x3"]
    return model.eval(), Photos(folder, labels), lambda data: (data - MEAN.to(data)) / DEVIATION.to(data), layers


class Drawn(torch.utils.data.Dataset):
    """The built-in scenes before normalisation."""

    def __init__(self, count):
        from crp.demo import Scenes

        self.scenes = Scenes("train", count)

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        scene = self.scenes.drawing(index)
        return torch.tensor(scene.picture).permute(2, 0, 1) / 255, self.scenes.scene(index).label


def scenes(count):
    """Return the same for the built-in model and scenes."""
    from crp.demo import demo_model

    return demo_model(), Drawn(count), lambda data: (data - 0.5) / 0.25, ["conv5", "conv4"]


def analyse(model, dataset, preprocess, layers, out):
    """Run all steps of the tutorial; pictures go to `out`, the values to print are returned."""
    composite, attribution = EpsilonPlusFlat(), CondAttribution(model)
    layer, found = layers[0], {}

    # Run: one pass over the data set. Its results are stored in files and are not mined again.
    fv = FeatureVisualization(
        attribution, dataset, dict.fromkeys(layers, ChannelConcept()), preprocess, path=out / "mined",
        cache=ImageCache(out / "cache"),
    )  # fmt: skip
    files = fv.run(composite, 0, len(dataset), batch_size=16, checkpoint=100)
    found["files"] = {name: len(paths) for name, paths in files.items()}

    # The concepts to look at: those most relevant for one prediction.
    data, target = fv.get_data_sample(min(9, len(dataset) - 1))
    attr = attribution(data, [{"y": [target]}], composite, record_layer=[layer])
    relevance = ChannelConcept().attribute(attr.relevances[layer], abs_norm=True)[0]
    concepts = torch.argsort(relevance, descending=True)[:4].tolist()
    found["concepts"] = {concept: float(relevance[concept]) for concept in concepts}

    # References: the samples for which they are most relevant, and those on which they are most active.
    samples, _scores, _positions = load_maximization(fv.RelMax.PATH, layer)
    found["best"] = {concept: samples[:4, concept].tolist() for concept in concepts}
    for mode in ("relevance", "activation"):
        drawn = fv.get_max_reference(concepts, layer, mode, (0, 6))
        picture(out / f"{mode}.png", {concept: list(images) for concept, images in drawn.items()})

    # With a composite, their conditional heatmaps; with `rf`, cropped to what the scoring position sees.
    drawn = fv.get_max_reference(concepts, layer, "relevance", (0, 6), composite, plot_fn=vis_img_heatmap)
    picture(out / "heatmaps.png", drawn)
    drawn = fv.get_max_reference(concepts, layer, "relevance", (0, 6), composite, rf=True, plot_fn=vis_opaque_img)
    picture(out / "zoomed.png", drawn)
    found["zoomed"] = {concept: [image.size for image in images] for concept, images in drawn.items()}

    # The raw numbers instead of pictures.
    data, heatmaps = fv.get_max_reference(concepts[0], layer, "relevance", (0, 2), composite, plot_fn=None)[concepts[0]]
    found["tensors"] = [list(data.shape), list(heatmaps.shape)]
    imgify(heatmaps[0], symmetric=True, resize=300).save(out / "heatmap.png")

    # Class statistics: for which classes is the concept most relevant, and for which of their samples?
    targets, means = fv.compute_stats(concepts[0], layer, "relevance", top_N=4, mean_N=3)
    found["classes"] = {int(target): float(mean) for target, mean in zip(targets, means, strict=True)}
    drawn = fv.get_stats_reference(
        concepts[0], layer, targets, "relevance", (0, 3), composite, rf=True, plot_fn=vis_opaque_img
    )
    picture(out / "classes.png", drawn)

    # Caching: what was drawn once is read from disk from now on. Precomputing draws many at once.
    fv.precompute_ref({layer: concepts[:2]}, composite, rf=True, r_range=(0, 4), plot_list=[vis_opaque_img])
    found["cached"] = len(list((out / "cache").rglob("*.png")))
    return found


def picture(path, drawn):
    """Save a grid of references."""
    plot_grid(drawn, figsize=(8, 7), resize=120, symmetric=True)
    plt.savefig(path, dpi=100)
    plt.close()


def main():
    """Run the tutorial on photos or on the built-in scenes."""
    parser = argparse.ArgumentParser(description="zennit-crp's feature visualisation tutorial.")
    parser.add_argument("--weights", help="weights of SqueezeNet 1.1; without them the built-in model is used")
    parser.add_argument("--photos", help="folder of pictures to mine with SqueezeNet")
    parser.add_argument("--labels", help="JSON list of their files and classes")
    parser.add_argument("--scenes", type=int, default=200, help="how many built-in scenes are mined")
    parser.add_argument("--out", type=Path, help="folder for the results; by default a temporary one")
    arguments = parser.parse_args()
    given = [each is not None for each in (arguments.weights, arguments.photos, arguments.labels)]
    if any(given) and not all(given):
        parser.error("give --weights, --photos and --labels together, or none of them")

    mined = photos(arguments.weights, arguments.photos, arguments.labels) if all(given) else scenes(arguments.scenes)
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        for name, value in analyse(*mined, out).items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
