"""`Atlas`: saves an explanation in seven formats, and shows it in notebooks."""

from __future__ import annotations

import html
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from crp.errors import InputError, listed
from crp.explanations import Explanation, to_json
from crp.explanations.concept_table import concept_rows, write_rows
from crp.files import user_path
from crp.visualization import concentration_wording, concept_names, wording
from crp.visualization import graph_layout as graph
from crp.visualization.inputs import PageRenderer, page_renderer_for
from crp.visualization.page import explanation_page as page
from crp.visualization.page_files import replace_file

if TYPE_CHECKING:
    from anywidget import AnyWidget
    from matplotlib.figure import Figure

DOTS_PER_INCH = 120


class Atlas:
    """One explained prediction as page, figure or numbers.

    Parameters
    ----------
    explanation
        The numbers. The atlas adds none.
    renderer
        How the page draws the input; by default as what it is (`crp.visualization.inputs`).
    """

    def __init__(self, explanation: Explanation, renderer: PageRenderer | None = None) -> None:
        self.explanation = explanation
        self.renderer = renderer

    def figure(self) -> Figure:
        """Draw the whole atlas as a new matplotlib Figure, not registered with pyplot."""
        from crp.visualization.figures.overview import atlas_figure  # pages need no matplotlib

        return atlas_figure(self.explanation)

    def html(self) -> str:
        """Return the page: one HTML document that loads nothing from outside itself."""
        return page.render(self.explanation, renderer=self.renderer)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the atlas in the format named by the suffix, and return the path.

        .html is the page, .png, .pdf and .svg the figure, .json all numbers and arrays (read by
        `crp.explanations.from_json`), .csv a row for each concept with a card, .dot the attribution graph for Graphviz.
        The file is written completely or not at all; an older one is replaced.

        Raises
        ------
        InputError
            If there is no such format or no graph to save, or the folder does not exist or cannot be written.
        """
        path = user_path(path)
        write = _WRITERS.get(path.suffix.lower())
        if write is None:
            raise InputError(f"{str(path)!r}: an atlas is saved as {listed(_WRITERS)}, not as {path.suffix!r}.")
        if not path.parent.is_dir():
            raise InputError(f"{str(path)!r}: the folder {str(path.parent)!r} does not exist.")
        if path.is_dir():
            raise InputError(f"{str(path)!r} is a folder; an atlas is saved as a file.")
        replace_file(path, lambda file: write(self, file))
        return path

    def widget(self) -> AnyWidget:
        """Return the page as a widget of a notebook, which hands what is selected on it to Python.

        What is selected on the page, by mouse or keyboard, is the widget's `region`: bool [rows, columns], cells of the
        concept map of the open `layer`. Its `ranking` is `ConceptMap.ranking(region)`: pairs (concept, relevance),
        computed here and not from the rounded numbers of the page. `view` is 0 for this explanation and more for those
        beside it. These are traits: `widget.observe(function, "ranking")`. `widget.select(region, layer=..., view=...)`
        selects on the page.

        Raises
        ------
        InputError
            If anywidget is not installed.
        """
        from crp.visualization.atlas_widget import widget_of  # pages need no anywidget

        return widget_of(self.explanation, self.renderer or page_renderer_for(self.explanation), self._repr_html_())

    def _repr_html_(self) -> str:
        source = html.escape(self.html(), quote=True)
        style = "width:100%;height:860px;border:0;border-radius:12px"
        allowed = "allow-scripts allow-downloads"
        return f'<iframe title="Concept atlas" sandbox="{allowed}" style="{style}" srcdoc="{source}"></iframe>'

    def __repr__(self) -> str:
        """Say the prediction and the strongest concepts of each layer."""
        sentence = "".join(text for text, _ in wording.headline(self.explanation))
        lines = [f"Atlas: {sentence}"]
        for layer in self.explanation.layers:
            parts = ", ".join(
                f"{concept_names.label(part.concept, layer.name_of(part.concept))} {wording.signed_percent(part.share)}"
                for part in layer.ranked[:4]
            )
            lines.append(f"  {layer.layer}: {parts or 'no concept shown'} (rest {wording.ledger(layer)['rest']})")
            if said := concentration_wording.concentration(layer):
                lines.append(f"    {said}")
        return "\n".join(lines)


def atlas(model: Any, image: Any, library: Any, **options: Any) -> Atlas:
    """Explain a prediction and return its atlas; arguments as in `crp.explain`."""
    # Explaining needs torch and zennit; drawing a finished explanation does not.
    from crp.explanations.computation import explain

    return Atlas(explain(model, image, library, **options))


def _save_figure(value: Atlas, file: BinaryIO, **options: Any) -> None:
    from crp.visualization.figures.overview import save

    save(value.figure(), file, **options)


def _write_figure(format: str) -> Callable[[Atlas, BinaryIO], None]:
    def write(value: Atlas, file: BinaryIO) -> None:
        _save_figure(value, file, format=format, dpi=DOTS_PER_INCH)

    return write


def _write_page(value: Atlas, file: BinaryIO) -> None:
    # File names may hold bytes that are not text (lone surrogates); they become question marks.
    file.write(value.html().encode("utf-8", "replace"))


def _write_numbers(value: Atlas, file: BinaryIO) -> None:
    file.write(json.dumps(to_json(value.explanation), indent=1, allow_nan=False).encode("ascii"))


def _write_rows(value: Atlas, file: BinaryIO) -> None:
    text = io.StringIO(newline="")
    write_rows(concept_rows(value.explanation), text)
    file.write(text.getvalue().encode("utf-8", "replace"))


def _write_dot(value: Atlas, file: BinaryIO) -> None:
    if value.explanation.graph is None:
        raise InputError("this atlas has no graph to save as .dot: explain with graph=True.")
    file.write(graph.dot(value.explanation.graph).encode("utf-8", "replace"))


_WRITERS: dict[str, Callable[[Atlas, BinaryIO], None]] = {
    ".html": _write_page,
    ".png": _write_figure("png"),
    ".pdf": _write_figure("pdf"),
    ".svg": _write_figure("svg"),
    ".json": _write_numbers,
    ".csv": _write_rows,
    ".dot": _write_dot,
}
