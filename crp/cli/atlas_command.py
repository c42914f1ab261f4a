"""`crp atlas`: explains pictures with a library."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crp.cli import options
from crp.cli.patch_supply import supply
from crp.errors import InputError, LibraryError
from crp.files import user_path

if TYPE_CHECKING:
    from torch import Tensor, nn

    from crp.library import Library
    from crp.models import PreparedModel

CONCEPTS, PAIRS = 6, 8
FORMATS = ("html", "png", "pdf", "svg", "json", "dot")
SITE = "site"


@click.command(short_help="Explain pictures with a library: a page for each, or a site.")
@click.argument("library")
@click.argument("images", nargs=-1, metavar="PICTURE...")
@click.option(
    "--out",
    metavar="PATH",
    help="A file (zebra.html, zebra.png, ...), or a folder for PICTURE.html; default: the current folder. "
    f"For a site, its folder; default: '{SITE}'.",
)
@click.option("--site", is_flag=True, help="Make a site, even of single pictures, or of the library's concepts alone.")
@click.option(
    "--format", "formats", type=click.Choice(FORMATS), multiple=True, help="Can be repeated; default: html."
)
@click.option("--layers", type=options.Names(), help="Some of the library's layers, separated by commas; default: all.")
@click.option(
    "--concepts",
    type=click.IntRange(min=1),
    default=CONCEPTS,
    show_default=True,
    help="Largest number of concepts for and against in each layer.",
)
@click.option(
    "--target",
    metavar="CLASS",
    help="Class to explain, by index or name; default: the predicted class. Also 'octagon - disc', 'octagon + disc', "
    "'octagon - others', or of a model with one output 'output - 3.5'.",
)
@click.option(
    "--mask",
    metavar="FILE",
    help="Explain the class --target of a segmentation inside the bright pixels of this picture, as large as PICTURE.",
)
@click.option("--box", type=int, metavar="N", help="Explain box N that the detector finds, from 0.")
@click.option("--similar-to", metavar="FILE", help="Explain how similar the model's embedding is to this picture's.")
@click.option("--against", metavar="CLASS", help="Also explain this class, and the difference: why not this one?")
@click.option("--graph/--no-graph", default=True, help="Whether to show how lower concepts compose higher ones.")
@click.option(
    "--pairs",
    type=click.IntRange(min=0),
    default=PAIRS,
    show_default=True,
    help="Concepts of a layer that a page can switch off two at a time.",
)
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.weights
@click.option("--data", metavar="DATA", help="The mined data, for patches not made yet; default: as the library names.")
@click.option("--trust", is_flag=True, help="Run code that the library names. Only for libraries you trust.")
@options.concept
@options.device
def atlas(library: str, images: tuple[str, ...], **given: Any) -> None:
    """Explain a model's predictions for PICTUREs by the concepts in LIBRARY, with a page for each.

    If a PICTURE is a folder, all its pictures become a site: an index, a page for each prediction, and a page for each
    concept of the layers, with links between them. After an interruption the same command resumes. Complete pages are
    kept as long as nothing on them has changed.

    Patches are pictures of the samples that show a concept best. Those that the library does not have yet are made from
    the mined data, if these are where they were, or are given with --data; otherwise the page says so.

    The library names the model. torchvision's models are loaded automatically; other code is run only if you give it
    again with --model, or with --trust. The weights must be those that were mined.

    \b
    Example:
        crp atlas squeezenet.crp zebra.jpg ladybird.jpg --format html --format png --out atlases/
        crp atlas squeezenet.crp photos/ --out site/
        crp atlas deeplab.crp street.jpg --target road --mask crossing.png
    """
    sys.path.append(os.getcwd())
    from crp.library import open_library
    from crp.models import prepared
    from crp.preprocessing import read_picture
    from crp.sources.fitting import pick_device
    from crp.sources.kinds import kinds_named
    from crp.sources.provenance import model_of
    from crp.sources.start_requests import StartRequest
    from crp.visualization.atlases import atlas as draw

    site = given["site"] or any(user_path(image).is_dir() for image in images)
    if not images and not site:
        raise click.UsageError("Missing argument 'PICTURE...': give pictures, a folder of pictures, or only --site.")
    request = StartRequest(**{name: given[name] for name in ("target", "mask", "box", "similar_to")})
    if site and not request.by_name:
        raise click.UsageError("--mask, --box and --similar-to explain single pictures; a site explains classes.")
    opened = open_library(library)
    options = {name: given[name] for name in ("layers", "target", "against", "graph", "concepts", "pairs")}
    if given["concept"]:
        options["concept"] = kinds_named(given["concept"], opened.layers)
    if not images:
        _site(None, images, opened, library, given, options)
        return
    paths = {} if site else _paths(images, given["out"], given["formats"])
    model = model_of(opened, model=given["model"], weights=given["weights"], trust=given["trust"])
    model = model.to(pick_device(given["device"]))
    if opened.preprocessing is None:
        raise LibraryError(
            f"The library '{library}' does not say how pictures become model input; mine it again with --size, "
            "--mean and --std, or --preprocessing."
        )
    ready = prepared(model, data=None if site else _check(model, images, opened), library=opened)
    if site:
        _site(ready, images, opened, library, given, options)
        return
    supply(opened, ready, kinds_named(given["concept"], opened.layers), data=given["data"], trust=given["trust"])
    for image in images:
        provenance = {"image": Path(image).name, "command": _command(library, [image], given)}
        own, options["target"] = request.of(model, image, opened)
        if own is not model:
            ready = prepared(own, data=opened.preprocessing.to_input(read_picture(image))[None], library=opened)
        explained = draw(ready, image, opened, provenance=provenance, **options)
        for path in paths[image]:
            _make_folder(path.parent)
            click.echo(explained.save(path))


def _check(model: nn.Module, images: tuple[str, ...], library: Library) -> Tensor:
    """Check all pictures before the first one is explained, and return the model input of one of them."""
    from crp.preprocessing import read_picture
    from crp.sources.fitting import run

    tried: set = set()
    for image in images:
        data = library.preprocessing.to_input(read_picture(image))
        if data.shape not in tried:
            run(model, data, f"'{image}'")
        tried.add(data.shape)
        example = data[None]
    return example


def _site(
    model: PreparedModel | None,
    images: tuple[str, ...],
    opened: Library,
    library: str,
    given: dict[str, Any],
    options: dict[str, Any],
) -> None:
    from crp.sources.data import pictures_below
    from crp.sources.kinds import kinds_named
    from crp.visualization.site.site_maker import make_site

    if given["formats"]:
        raise click.UsageError("--format is for single pages; a site is HTML.")
    folder = user_path(given["out"] or SITE)
    if folder.suffix.removeprefix(".").lower() in FORMATS and not folder.is_dir():
        raise click.UsageError(f"--out {folder} is one file; a site is a folder.")
    pictures = []
    for image in map(user_path, images):
        pictures += pictures_below(image, without=folder) if image.is_dir() else [image]
    if model is not None:
        supply(opened, model, kinds_named(given["concept"], opened.layers), data=given["data"], trust=given["trust"])
    index = make_site(
        model,
        list(dict.fromkeys(pictures)),
        opened,
        folder,
        command=_command(library, images, given, ["--site"] if given["site"] else []),
        page_command=lambda picture: _command(library, [str(picture)], given),
        **options,
    )
    click.echo(index)


def _command(library: str, images: Sequence[str], given: dict[str, Any], switches: Sequence[str] = ()) -> str:
    """Return the command that makes this page again: what was explained, without where it was written."""
    words = ("layers", "target", "mask", "box", "similar_to", "against", "model", "weights")
    asked = {name: given[name] for name in words}
    for name, default in (("concepts", CONCEPTS), ("pairs", PAIRS)):
        asked[name] = given[name] if given[name] != default else None
    asked["concept"] = given["concept"]
    words = options.command_line("atlas", [library, *images], asked)
    switches = [*switches, *(["--trust"] if given["trust"] else []), *([] if given["graph"] else ["--no-graph"])]
    return shlex.join([*words, *switches])


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be created: {error.strerror} ('{error.filename}').") from error


def _paths(images: tuple[str, ...], out: str | None, formats: tuple[str, ...]) -> dict[str, list[Path]]:
    """Return by picture the files to write."""
    place = user_path(out or ".")
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
                f"'{other}' and '{image}' would both be written to {written[0]}; explain them separately."
            )
    return files
