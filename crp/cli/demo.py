"""`crp demo`: from the built-in data set to the atlas of one prediction."""

from __future__ import annotations

from pathlib import Path

import click

LAYERS = ("conv4", "conv5")


@click.command(short_help="A complete example with built-in data and model.")
@click.option(
    "--out", default="crp-demo", show_default=True, metavar="FOLDER", help="Where library, picture and atlas go."
)
@click.option("--samples", type=click.IntRange(min=100), default=1000, show_default=True, help="Scenes to mine.")
def demo(out: str, samples: int) -> None:
    """Mine the built-in data set with its trained model, and explain one prediction: a complete example.

    The scenes are drawn by the program, so the truth about them is known. One class, the octagon, carried a small stamp
    in a corner when the model was trained; the atlas shows whether the model looks at the octagon or at the stamp.

    \b
    Example:
        crp demo --out demo && crp atlas demo/library.crp demo/scene.png --format png
    """
    import torch
    from PIL import Image

    from crp.demo import Scenes, demo_model
    from crp.demo.drawing import TAGGED_CLASS
    from crp.explaining import explain
    from crp.mining import mine
    from crp.sources.origin import origin
    from crp.visualization.atlas import Atlas

    folder, model = Path(out), demo_model()
    library = mine(
        model,
        Scenes("train", samples),
        layers=LAYERS,
        path=folder / "library.crp",
        class_names=Scenes.class_names,
        preprocessing=Scenes.preprocessing,
        source=origin("demo", "demo", None, ["crp", "demo", "--samples", str(samples)]),
        overwrite=True,
    )
    scenes = Scenes("test", 10 * len(Scenes.class_names), tag="always")
    chosen = TAGGED_CLASS  # scene i is of class i modulo the number of classes
    picture = folder / "scene.png"
    Image.fromarray(scenes.with_tag(chosen)).save(picture)
    explanation = explain(
        model, picture, library, provenance={"image": picture.name, "command": f"crp demo --out {out}"}
    )
    atlas = Atlas(explanation)
    pages = [atlas.save(folder / f"atlas.{suffix}") for suffix in ("html", "png")]

    with torch.no_grad():
        without = model(Scenes.preprocessing.to_input(scenes.without_tag(chosen))[None])[0].softmax(0)
    strongest = explanation.layers[-1].supporting[0]
    top, left, bottom, right = scenes.tag_box(chosen)
    positive = strongest.heatmap.clip(min=0)
    inside = positive[top:bottom, left:right].sum() / positive.sum()
    click.echo(f"""
The scene {picture} shows an octagon with a small stamp in a corner, and the model says
'{explanation.best.name}' ({explanation.best.probability:.0%}). The strongest concept of {strongest.layer} is channel
{strongest.concept}, with {strongest.share:+.0%} of the layer's relevance; {inside:.0%} of its positive relevance lies
on the stamp. Without the stamp the same scene is '{Scenes.class_names[int(without.argmax())]}'
({float(without.max()):.0%}).

Atlas:   {", ".join(str(page) for page in pages)}
Library: {library.path}
Next:    crp atlas {library.path} {picture} --out mine.html""")
