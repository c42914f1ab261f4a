"""`crp atlas`: pictures explained with a library."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from crp.cli import options
from crp.errors import InputError, LibraryError

CONCEPTS = 6
FORMATS = ("html", "png", "pdf", "svg", "json", "dot")


@click.command(short_help="Explain pictures with a library: one page each.")
@click.argument("library")
@click.argument("images", nargs=-1, required=True, metavar="PICTURE...")
@click.option(
    "--out",
    metavar="PATH",
    help="A file (zebra.html, zebra.png, ...), or a folder for PICTURE.html; by default the folder one works in.",
)
@click.option(
    "--format", "formats", type=click.Choice(FORMATS), multiple=True, help="May be repeated; by default html."
)
@click.option("--layers", type=options.Names(), help="Some of the library's layers, commas between them; default all.")
@click.option(
    "--concepts",
    type=click.IntRange(min=1),
    default=CONCEPTS,
    show_default=True,
    help="Concepts for and against, of each layer.",
)
@click.option("--target", metavar="CLASS", help="Class to explain, by index or name; by default the predicted one.")
@click.option("--against", metavar="CLASS", help="Explain also this class, and the difference: why not this one?")
@click.option("--graph/--no-graph", default=True, help="How lower concepts compose higher ones; by default shown.")
@click.option("--model", metavar="MODEL", help="The model that was mined, named as for `crp mine`.")
@options.weights
@click.option("--trust", is_flag=True, help="Run the model code that the library names. Only for libraries you trust.")
@options.device
def atlas(library: str, images: tuple[str, ...], **given: Any) -> None:
    """Explain a model's predictions for PICTUREs by the concepts in LIBRARY, one page each.

    The model is found from what the library keeps of `crp mine`. torchvision's models are loaded by themselves; code of
    your own runs only if you name it again with --model, or say --trust. Weights must be those that were mined.

    \b
    Example:
        crp atlas squeezenet.crp zebra.jpg ladybird.jpg --format html --format png --out atlases/
    """
    sys.path.append(os.getcwd())
    from crp.explaining import explain
    from crp.images import read_picture
    from crp.library import open_library
    from crp.sources.fitting import pick_device, run
    from crp.sources.origin import model_of
    from crp.visualization.atlas import Atlas

    opened = open_library(library)
    paths = _paths(images, given["out"], given["formats"])
    model = model_of(opened, model=given["model"], weights=given["weights"], trust=given["trust"])
    model = model.to(pick_device(given["device"]))
    if opened.preprocessing is None:
        raise LibraryError(
            f"The library '{library}' does not know how pictures become the model's input; mine it again and say it "
            "with --size, --mean and --std, or --preprocessing."
        )
    for image in images:
        # What does not fit is told before the first picture is explained, not after the last.
        run(model, opened.preprocessing.to_input(read_picture(image)), f"'{image}'")
    for image in images:
        explanation = explain(
            model,
            image,
            opened,
            layers=given["layers"],
            target=given["target"],
            against=given["against"],
            graph=given["graph"],
            concepts=given["concepts"],
            provenance={"image": Path(image).name, "command": _command(library, image, given)},
        )
        for path in paths[image]:
            _make_folder(path.parent)
            click.echo(Atlas(explanation).save(path))


def _command(library: str, image: str, given: dict[str, Any]) -> str:
    """What to type for this page again: what was asked for, without where it was written."""
    asked = {name: given[name] for name in ("layers", "target", "against", "model", "weights")}
    asked["concepts"] = given["concepts"] if given["concepts"] != CONCEPTS else None
    words = options.command_line("atlas", [library, image], asked)
    switches = [*(["--trust"] if given["trust"] else []), *([] if given["graph"] else ["--no-graph"])]
    return shlex.join([*words, *switches])


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be made: {error.strerror} ('{error.filename}').") from error


def _paths(images: tuple[str, ...], out: str | None, formats: tuple[str, ...]) -> dict[str, list[Path]]:
    """Return by picture the files to write."""
    place = Path(out or ".")
    suffix = place.suffix.removeprefix(".").lower()
    if suffix in FORMATS and not place.is_dir():
        if len(images) > 1 or len({suffix, *formats}) > 1:
            raise click.UsageError(f"--out {out} is one file; for several pictures or formats give a folder.")
        return {images[0]: [place]}
    files = {image: [place / f"{Path(image).stem}.{format}" for format in formats or ("html",)] for image in images}
    seen: dict[Path, str] = {}
    for image, written in files.items():
        if (other := seen.setdefault(written[0], image)) != image:
            raise click.UsageError(
                f"'{other}' and '{image}' would both be written to {written[0]}; explain them apart."
            )
    return files
