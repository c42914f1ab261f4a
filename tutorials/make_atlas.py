"""Concept atlases for your own model and data. Copy this file, change what is marked CHANGE, run it.

Unchanged, it explains the built-in model on the built-in scenes in about a minute:

    python make_atlas.py

It mines the model once and stores a library in the folder `out`, then writes one page for each picture. The next run
finds the library and only writes pages. Delete `out/library.crp` when you change the model, the data or the layers.
"""

from pathlib import Path

import crp
from crp.demo import Scenes, demo_model

OUT = Path("out")

# CHANGE: the layers whose channels are the concepts. Late layers detect parts of objects, early ones edges and colours.
# `crp.attribution.layers.layer_names(model)` lists convolutions and linear layers; a block such as "layer4" works too.
LAYERS = ["conv4", "conv5"]


def load_model():
    """CHANGE: return a torch module with trained weights, whose output is [N, classes].

    For example:

    from torchvision.models import ResNet18_Weights, resnet18
    return resnet18(weights=ResNet18_Weights.DEFAULT)
    """
    return demo_model()


def load_data():
    """CHANGE: return data set, class names and preprocessing.

    Items of the data set are (float tensor [c, H, W], label), without augmentation. For example:

    from torchvision.datasets import ImageFolder
    preprocessing = crp.Preprocessing.imagenet()
    dataset = ImageFolder("photos", transform=preprocessing.to_input)
    return dataset, dataset.classes, preprocessing
    """
    dataset = Scenes("train", 1000)
    return dataset, dataset.class_names, dataset.preprocessing


def load_pictures():
    """CHANGE: return what to explain, by the name of its page.

    Files, PIL images, uint8 arrays [H, W, 3] or model inputs. For example:

    return {path.stem: path for path in Path("to_explain").glob("*.jpg")}
    """
    unseen = Scenes("test", 10)
    return {"red-star": unseen.picture(7), "octagon": unseen.with_tag(9)}


def main():
    """Mine unless the library exists, then write one page for each picture."""
    model, path = load_model(), OUT / "library.crp"
    if path.exists():
        library = crp.open_library(path)
    else:
        dataset, class_names, preprocessing = load_data()
        library = crp.mine(
            model,
            dataset,
            layers=LAYERS,
            path=path,
            class_names=class_names,
            preprocessing=preprocessing,
            targets="label",  # explain each sample for its label; "prediction" for data without labels
            workers=0,  # processes that read ahead; 2 to 8 if reading files is the bottleneck
            device=None,  # "cuda" to mine on a GPU
        )
    for name, picture in load_pictures().items():
        atlas = crp.atlas(model, picture, library)
        print(atlas.save(OUT / f"{name}.html"))  # or .png, .pdf, .svg, .json


if __name__ == "__main__":
    main()
