"""A page for each object of a picture, and an index: the picture with numbered objects that link to their pages.

    index.html       the picture and its objects
    object-0.html    the page of one object
    objects.csv      a row for each concept of each object

Every page is complete on its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crp.errors import InputError
from crp.explanations import Explanation
from crp.explanations.concept_table import concept_rows, write_rows
from crp.explanations.object_explanations import ObjectExplanation, explain_objects
from crp.files import user_path
from crp.library import Library
from crp.visualization import concept_names, place_wording, wording
from crp.visualization import encoding as images
from crp.visualization import picture_formats as formats
from crp.visualization.inputs import page_renderer_for
from crp.visualization.number_formats import percent, probability
from crp.visualization.package_files import template_files
from crp.visualization.page import explanation_page as page
from crp.visualization.page.outline import outline_view
from crp.visualization.page_files import write_changed

# Pictures are embedded no larger than they are shown.
SIDE, CROP, PATCH = 1100, 240, 64
# Concepts named on the index, and characters of their names.
TOP, NAME_LENGTH = 4, 16


@dataclass(frozen=True)
class _Summary:
    """What the index says of an object; explanations are not kept."""

    view: dict[str, Any]
    rows: list[dict[str, Any]]


def make_object_pages(
    model: Any,
    image: Any,
    library: Library,
    folder: Any,
    *,
    name: str = "",
    command: str = "",
    page_command: Callable[[dict[str, Any]], str] | None = None,
    **options: Any,
) -> Path:
    """Explain every object of a picture, and write a page for each of them and an index.

    Parameters
    ----------
    model
        A segmentation, or a detector: see `crp.attribution.found_objects`.
    image, library, options
        As in `crp.explain`, without `target`, `against`, `place` and `provenance`.
    folder
        Where to write; created if it does not exist. Pages of an earlier call are replaced.
    name
        What the picture is called.
    command
        The command that makes these pages, shown on the index.
    page_command
        Returns the command that makes the page of one object alone, given `{"box": 2}` or `{"target": "road"}`.

    Returns
    -------
    Path
        Path of the index.

    Raises
    ------
    InputError
        If the model finds no object, or the folder cannot be written.
    """
    folder = user_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be created: {error.strerror} ('{error.filename}').") from error
    found = explain_objects(model, image, library, **options)
    title = f"{_objects(found.count)}{f' in {name}' if name else ''}"
    summaries, picture, provenance = [], None, {}
    for number, each in enumerate(found.explained):
        explanation = each.explanation
        asked = {"target": each.class_name} if each.found.score is None else {"box": number}
        told = {"image": name, "command": page_command(asked) if page_command else ""}
        explanation.provenance.update({key: value for key, value in told.items() if value})
        html = page.render(explanation, home={"page": "index.html", "title": title})
        write_changed(folder / f"object-{number}.html", html.encode("utf-8", "replace"))
        summaries.append(_summary(number, each))
        picture, provenance = explanation.picture, explanation.provenance
    for old in folder.glob("object-*.html"):
        match = re.fullmatch(r"object-(\d+)\.html", old.name)
        if match and int(match[1]) >= found.count:
            old.unlink()
    text = io.StringIO(newline="")
    write_rows([row for summary in summaries for row in summary.rows], text)
    write_changed(folder / "objects.csv", text.getvalue().encode("utf-8", "replace"))
    index = folder / "index.html"
    content = _index(title, name, picture, [summary.view for summary in summaries], found.left_out, command, provenance)
    write_changed(index, content.encode("utf-8", "replace"))
    return index


def _index(
    title: str,
    name: str,
    picture: np.ndarray,
    objects: list[dict[str, Any]],
    left_out: int,
    command: str,
    provenance: dict[str, Any],
) -> str:
    height, width = picture.shape[:2]
    boxes = any(each["score"] for each in objects)
    return (
        page.environment()
        .get_template("objects.html")
        .render(
            title=title,
            name=name,
            style="".join(template_files()[file].decode() for file in ("style.css", "site.css")),
            picture=formats.picture_uri(picture, side=SIDE, quality=75),
            small=max(height, width) <= images.SMALL_SIDE,
            height=height,
            width=width,
            shown_smaller=wording.shown_smaller((height, width), SIDE, block=1),
            objects=objects,
            boxes=boxes,
            left_out=_left_out(left_out, boxes),
            command=command,
            provenance=list(page.provenance_groups({**provenance, "command": ""})),
        )
    )


def _summary(number: int, each: ObjectExplanation) -> _Summary:
    explanation, score = each.explanation, each.found.score
    layer = explanation.layers[0]
    first = {"object": number, "class": each.class_name, "score": "" if score is None else score}
    return _Summary(
        {
            "number": number,
            "page": f"object-{number}.html",
            "class": each.class_name,
            "score": "" if score is None else probability(score),
            "part": percent(each.found.part),
            "outline": outline_view(explanation, page_renderer_for(explanation)),
            "at": _corner(explanation),
            "crop": formats.picture_uri(_crop(explanation), side=CROP, quality=72),
            "context": place_wording.prediction_context_share(explanation),
            "layer": layer.layer,
            "concepts": [
                {
                    "full": concept_names.full(layer.layer, part.concept, layer.name_of(part.concept)),
                    "name": wording.shortened(layer.name_of(part.concept), NAME_LENGTH) or str(part.concept),
                    "page": f"object-{number}.html#{layer.layer}/{part.concept}",
                    "share": wording.signed_percent(part.share),
                    "side": "supports" if part.share > 0 else "opposes",
                    "context": place_wording.context_share(explanation, part),
                    "patch": _patch(part),
                }
                for part in layer.ranked[:TOP]
            ],
        },
        concept_rows(explanation, **first),
    )


def _corner(explanation: Explanation) -> dict[str, float]:
    """Return where the number of an object stands: the upper left corner of its box, or the middle of its mask."""
    place = explanation.place
    if place.box is not None:
        return {"x": max(0.0, place.box[0]), "y": max(0.0, place.box[1])}
    rows, columns = np.nonzero(place.mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return {"x": float(columns[nearest]), "y": float(rows[nearest])}


def _crop(explanation: Explanation) -> np.ndarray:
    """Cut out the surroundings of an object: a square one and a half times as large as it, where the picture allows."""
    rows, columns = np.flatnonzero(explanation.place.mask.any(1)), np.flatnonzero(explanation.place.mask.any(0))
    side = int(1.5 * max(rows[-1] - rows[0], columns[-1] - columns[0])) + 2
    starts = []
    for found, length in zip((rows, columns), explanation.picture.shape, strict=False):
        middle = (int(found[0]) + int(found[-1]) + 1) // 2
        starts.append((max(0, min(middle - side // 2, length - side)), min(side, length)))
    (top, height), (left, width) = starts
    return np.ascontiguousarray(explanation.picture[top : top + height, left : left + width])


def _patch(part: Any) -> str:
    for patches in (part.relevance_patches, part.activation_patches):
        if patches:
            return formats.photo_uri(images.squared(patches[0].picture, PATCH), quality=60)
    return ""


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _left_out(count: int, boxes: bool) -> str:
    """Say how many objects have no page; empty if all have one."""
    if not count:
        return ""
    if boxes:
        which = "1 more box has" if count == 1 else f"{count} more boxes have"
        return f"{which} a score below 50{chr(160)}%; crp atlas --box N explains it."
    which = "1 more class is" if count == 1 else f"{count} more classes are"
    return f"{which} predicted in less than 0.2{chr(160)}% of the picture; crp atlas --class NAME explains it."
