"""`crp demo`: mines the built-in data set and explains one of its predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crp.cli import options
from crp.files import user_path

if TYPE_CHECKING:
    from torch import nn

    from crp.demo import Scenes
    from crp.explanations.explanation import Explanation

LAYERS = {"cnn": ("conv4", "conv5"), "vit": ("blocks.1", "blocks.2")}


@click.command(short_help="Run a complete example with built-in data and model.")
@click.option("--out", default="crp-demo", show_default=True, metavar="FOLDER", help="Folder to write to.")
@click.option(
    "--model",
    "network",
    type=click.Choice(tuple(LAYERS)),
    default="cnn",
    show_default=True,
    help="The convolutional network or the vision transformer.",
)
@click.option("--samples", type=click.IntRange(min=100), default=1000, show_default=True, help="Scenes to mine.")
def demo(out: str, network: str, samples: int) -> None:
    """Run a complete example: mine the built-in data set with its trained model, and explain one prediction.

    The scenes are drawn by the program, so the ground truth is known. In the training data, one class, the octagon, had
    a small stamp in a corner. The atlas shows whether the model uses the octagon or the stamp.

    \b
    Example:
        crp demo --out demo && crp atlas demo/library.crp demo/scene.png --format png
    """
    from PIL import Image

    from crp.demo import TAGGED_CLASS, Scenes, demo_model
    from crp.explanations.computation import explain
    from crp.mining import mine
    from crp.sources.provenance import origin
    from crp.visualization.atlases import Atlas

    folder, model = user_path(out), demo_model(network)
    library = mine(
        model,
        Scenes("train", samples),
        layers=LAYERS[network],
        path=folder / "library.crp",
        class_names=Scenes.class_names,
        preprocessing=Scenes.preprocessing,
        source=origin(f"demo:{network}", "demo", None, ["crp", "demo", "--model", network, "--samples", str(samples)]),
        overwrite=True,
        restart=True,
    )
    scenes = Scenes("test", 10 * len(Scenes.class_names), tag="always")
    chosen = TAGGED_CLASS  # scene i shows class i modulo the number of classes
    picture = folder / "scene.png"
    Image.fromarray(scenes.with_tag(chosen)).save(picture)
    command = f"crp demo --model {network} --out {out}"
    explanation = explain(model, picture, library, provenance={"image": picture.name, "command": command})
    atlas = Atlas(explanation)
    pages = [atlas.save(folder / f"atlas.{suffix}") for suffix in ("html", "png")]

    click.echo(f"\n{_story(model, scenes, chosen, explanation)}\n")
    click.echo(f"Scene:   {picture}")
    click.echo(f"Atlas:   {', '.join(str(page) for page in pages)}")
    click.echo(f"Library: {library.path}")
    click.echo(f"Next:    {options.explaining_command(library.path, picture)} --out mine.html")


def _story(model: nn.Module, scenes: Scenes, chosen: int, explanation: Explanation) -> str:
    """Describe the atlas in four sentences with the numbers of this run."""
    import torch

    with torch.no_grad():
        without = model(scenes.preprocessing.to_input(scenes.without_tag(chosen))[None])[0].softmax(0)
    layer = explanation.layers[0]
    strongest = layer.supporting[0]
    top, left, bottom, right = scenes.tag_box(chosen)
    positive = strongest.heatmap.clip(min=0)
    inside = positive[top:bottom, left:right].sum() / positive.sum()
    sentences = (
        "The scene shows an octagon and, in a corner, the stamp that octagons had in the training data.",
        f"The model says '{explanation.best.name}' ({explanation.best.probability:.0%}).",
        f"Its strongest concept in {layer.layer} is channel {strongest.concept}, {strongest.share:.0%} of the layer's "
        f"relevance, and {inside:.0%} of that concept's positive relevance lies on the stamp.",
        f"Without the stamp the model says '{scenes.class_names[int(without.argmax())]}' ({float(without.max()):.0%}).",
    )
    return click.wrap_text(" ".join(sentences), width=100)
