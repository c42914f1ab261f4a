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
from crp.cli.patch_supply import name_samples, supply
from crp.errors import InputError, LibraryError
from crp.files import user_path

if TYPE_CHECKING:
    from torch import Tensor, nn

    from crp.library import Library
    from crp.models import PreparedModel

CONCEPTS, PAIRS = 6, 8
FORMATS = ("html", "png", "pdf", "svg", "json", "csv", "dot")
SITE = "site"
OBJECTS = "objects"


@click.command(short_help="Explain pictures with a library: one page each, or a site.")
@click.argument("library")
@click.argument("images", nargs=-1, metavar="PICTURE...")
@click.option(
    "--out",
    metavar="PATH",
    help="A file (zebra.html, zebra.png, ...), or a folder for PICTURE.html; default: the current folder. "
    f"For a site, its folder; default: '{SITE}'. For --objects, a folder; default: '{OBJECTS}'.",
)
@click.option(
    "--site", is_flag=True, help="Make a site, even for single pictures, or for the library's concepts alone."
)
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, help="Can be repeated; default: html.")
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
    "--class",
    "target",
    metavar="CLASS",
    help="Class to explain, by index or name; default: the predicted class. Also 'octagon - disc', 'octagon + disc', "
    "'octagon - others' or, for a model with one output, 'output - 3.5'. A class of a segmentation is explained "
    "where it is predicted.",
)
@click.option(
    "--mask",
    metavar="FILE",
    help="A picture as large as PICTURE whose bright pixels mark the object: a class of a segmentation is explained "
    "inside it, and pages say how much relevance lies outside.",
)
@click.option("--box", type=int, metavar="N", help="Explain box N that the detector finds, from 0.")
@click.option(
    "--objects",
    is_flag=True,
    help="Explain every box that a detector finds, or every class of a segmentation: a page for each, and an index.",
)
@click.option(
    "--similar-to", metavar="FILE", help="Explain the similarity of the embeddings of PICTURE and of this picture."
)
@click.option("--against", metavar="CLASS", help="Also explain this class and the difference: why not this class?")
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
@click.option(
    "--data", metavar="DATA", help="The mined data, for patches not made yet; default: what the library names."
)
@click.option(
    "--labels",
    metavar="FILE",
    help="For a site: a CSV file with the columns file and label, the true classes of the PICTUREs; default: the "
    "subfolders of a folder, if these are named like classes.",
)
@click.option("--trust", is_flag=True, help="Run code that the library names. Only for libraries you trust.")
@options.concept
@options.probabilities
@options.device
def atlas(library: str, images: tuple[str, ...], **given: Any) -> None:
    """Explain a model's predictions for PICTUREs by the concepts in LIBRARY, with a page for each.

    If a PICTURE is a folder, all its pictures become a site: an index, a page for each prediction, and a page for each
    concept of the layers, with links between them. After an interruption, the same command resumes. Finished pages are
    kept as long as nothing on them has changed.

    Patches are pictures of the samples that show a concept best. Those that the library does not have yet are made from
    the mined data, if these are still in place or are given with --data; otherwise the page says so.

    The library names the model. Models of torchvision, timm and transformers are loaded automatically; other code runs
    only if you name it again with --model, or give --trust. The weights must be those that were mined.

    \b
    Example:
        crp atlas squeezenet.crp zebra.jpg ladybird.jpg --format html --format png --out atlases/
        crp atlas squeezenet.crp photos/ --out site/
        crp atlas deeplab.crp street.jpg --class road --mask crossing.png
        crp atlas detector.crp street.jpg --objects --out street/
    """
    sys.path.append(os.getcwd())
    from crp.library import open_library
    from crp.media.any_preprocessing import read_input
    from crp.models import prepared
    from crp.sources.fitting import pick_device
    from crp.sources.kinds import kinds_named
    from crp.sources.provenance import model_of
    from crp.sources.start_requests import StartRequest
    from crp.visualization.atlases import atlas as draw

    site = given["site"] or any(user_path(image).is_dir() for image in images)
    if not images and not site:
        raise click.UsageError("Missing argument 'PICTURE...': give pictures, a folder of pictures, or only --site.")
    request = StartRequest(**{name: given[name] for name in ("target", "mask", "box", "similar_to")})
    if given["labels"] and not site:
        raise click.UsageError("--labels are for a site: give a folder of pictures, or --site.")
    if site and not request.by_name:
        raise click.UsageError("--mask, --box and --similar-to explain single pictures; a site explains classes.")
    if given["objects"] and (site or given["formats"] or given["target"] or given["against"] or not request.by_name):
        raise click.UsageError(
            "--objects explains every object of single pictures, as pages: --site, --format, --target, --against, "
            "--mask, --box and --similar-to cannot be given, too."
        )
    opened = open_library(library)
    options = {name: given[name] for name in ("layers", "target", "against", "graph", "concepts", "pairs")}
    if given["concept"]:
        options["concept"] = kinds_named(given["concept"], opened.layers)
    if not images:
        _site(None, images, opened, library, given, options)
        return
    paths = {} if site or given["objects"] else _paths(images, given["out"], given["formats"])
    model = model_of(opened, model=given["model"], weights=given["weights"], trust=given["trust"])
    model = model.to(pick_device(given["device"]))
    if opened.preprocessing is None:
        raise LibraryError(
            f"The library '{library}' does not say how pictures become model input; mine it again with --size, "
            "--mean and --std, or --preprocessing."
        )
    how = {"library": opened, "probabilities": given["probabilities"]}
    ready = prepared(model, data=None if site else _check(model, images, opened), **how)
    if site:
        _site(ready, images, opened, library, given, options)
        return
    supply(opened, ready, kinds_named(given["concept"], opened.layers), data=given["data"], trust=given["trust"])
    if given["objects"]:
        _objects(model, images, opened, library, given, options)
        return
    for image in images:
        provenance = {"image": Path(image).name, "command": _command(library, [image], given)}
        own, options["target"] = request.of(model, image, opened)
        if own is not model:
            ready = prepared(own, data=read_input(image, opened.preprocessing)[0][None], **how)
        place = request.place(image, opened)
        explained = draw(ready, image, opened, place=place, provenance=provenance, **options)
        for path in paths[image]:
            _make_folder(path.parent)
            click.echo(explained.save(path))


def _objects(
    model: nn.Module,
    images: tuple[str, ...],
    opened: Library,
    library: str,
    given: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Write the pages of the objects of each picture; of several pictures each into a folder of its own."""
    from crp.visualization.page_files import file_name
    from crp.visualization.site.object_pages import make_object_pages

    folder, taken = user_path(given["out"] or OBJECTS), []
    chosen = {name: value for name, value in options.items() if name not in ("target", "against")}
    for image in images:
        taken.append(file_name(Path(image).stem, taken))
        index = make_object_pages(
            model,
            image,
            opened,
            folder / taken[-1] if len(images) > 1 else folder,
            name=Path(image).name,
            command=_command(library, [image], given, ["--objects"]),
            page_command=lambda asked, image=image: _command(library, [image], {**given, **asked}),
            **chosen,
        )
        click.echo(index)


def _check(model: nn.Module, images: tuple[str, ...], library: Library) -> Tensor:
    """Check all pictures before the first one is explained, and return the model input of one of them."""
    from crp.media.any_preprocessing import read_input
    from crp.sources.fitting import run

    tried: set = set()
    for image in images:
        data = read_input(image, library.preprocessing)[0]
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
    from crp.sources.picture_labels import labels_of_folder, read_labels
    from crp.visualization.site.site_maker import make_site

    if given["formats"]:
        raise click.UsageError("--format is for single pages; a site is HTML.")
    folder = user_path(given["out"] or SITE)
    if folder.suffix.removeprefix(".").lower() in FORMATS and not folder.is_dir():
        raise click.UsageError(f"--out {folder} is one file; a site is a folder.")
    pictures, in_folders = [], {}
    for image in map(user_path, images):
        found = pictures_below(image, folder, opened.preprocessing) if image.is_dir() else [image]
        if image.is_dir():
            in_folders |= labels_of_folder(image, found, opened.class_names)
        pictures += found
    labels, labels_from = in_folders, "the names of the folders that hold the pictures"
    if given["labels"]:
        labels = read_labels(given["labels"], pictures, opened.class_names, opened.manifest["classes"])
        labels_from = f"the file {Path(given['labels']).name}"
    if model is not None:
        supply(opened, model, kinds_named(given["concept"], opened.layers), data=given["data"], trust=given["trust"])
    if opened.samples is None:
        name_samples(opened, data=given["data"], trust=given["trust"])
    index = make_site(
        model,
        list(dict.fromkeys(pictures)),
        opened,
        folder,
        command=_command(library, images, given, ["--site"] if given["site"] else []),
        page_command=lambda picture: _command(library, [str(picture)], given | {"labels": None}),
        labels=labels,
        labels_from=labels_from if labels else "",
        **options,
    )
    click.echo(index)


def _command(library: str, images: Sequence[str], given: dict[str, Any], switches: Sequence[str] = ()) -> str:
    """Return the command that makes this page again: what was explained, without where it was written."""
    words = ("layers", "target", "mask", "box", "similar_to", "against", "model", "weights", "labels", "probabilities")
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
    """Return by picture the files to write, none of which is a picture itself."""
    files = _files(images, out, formats)
    pictures = {user_path(image).resolve(): image for image in images}
    for path in (path for written in files.values() for path in written):
        if path.resolve() in pictures:
            raise click.UsageError(
                f"The atlas would replace the picture '{pictures[path.resolve()]}': give another file or folder with "
                "--out."
            )
    return files


def _files(images: tuple[str, ...], out: str | None, formats: tuple[str, ...]) -> dict[str, list[Path]]:
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
