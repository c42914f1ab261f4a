"""The page: one HTML file that opens offline and asks for nothing outside itself.

The template gets finished values only (texts, data URIs, colours); what is computed here is how they look, never
relevance. Everything that comes from outside (class, file and layer names) is text until jinja2 has escaped it, in the
JSON blocks until `script_json` has; a content security policy in the page forbids all requests besides.

A page of a site is the same page, but for what all pages of the site share (`shared.py`), which it refers to.

One view is one explanation of the input: of a class, of another class beside it, of the difference of both. Without
scripts the views stand below each other with all they say; the script lets the reader choose, point, search and select.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup

from crp.explanations import ClassScore, Explanation, LayerExplanation, Patch, numbers
from crp.explanations.plausibility import absorbed_is_a_share, coverage_is_a_share
from crp.visualization import colours as palette
from crp.visualization import concentration_wording, conservation_wording, effect_wording, place_wording, wording
from crp.visualization import encoding as images
from crp.visualization import picture_formats as formats
from crp.visualization.inputs import PageRenderer, page_renderer_for
from crp.visualization.no_concept import outside
from crp.visualization.package_files import template_files
from crp.visualization.page.cards import WHERE_SIDE, card_view
from crp.visualization.page.concept_map_section import cells_view, concept_map_view
from crp.visualization.page.context import STAGE_SIDE, Context
from crp.visualization.page.glimpses import embedded_glimpses, shared_glimpses
from crp.visualization.page.graph_section import graph_view
from crp.visualization.page.heatmap_sheets import HeatmapSheet
from crp.visualization.page.heatmaps import layer_limits
from crp.visualization.page.outline import outline_view
from crp.visualization.page.packed_parts import MOST_LAYERS, packed_part
from crp.visualization.page.packing import packed_json
from crp.visualization.page.patch_sheets import UP, PatchSheets
from crp.visualization.page.planes import planes_view
from crp.visualization.page.sounds import Sounds
from crp.visualization.page.stored_tables import cell_tables
from crp.visualization.page.switch_data import ablations_block
from crp.visualization.page.whole_picture import whole_view

if TYPE_CHECKING:
    from crp.visualization.site.shared import Shared


def render(
    explanation: Explanation,
    shared: Shared | None = None,
    *,
    site: Mapping[str, Any] | None = None,
    renderer: PageRenderer | None = None,
    home: Mapping[str, str] | None = None,
) -> str:
    """Write the page of an explanation.

    Parameters
    ----------
    explanation
        What it shows.
    shared
        The files of the site that the page belongs to. Without it the page needs nothing outside itself.
    site
        What the page says of that site: its `title`, and its own `place` among the predictions.
    renderer
        How the input is drawn; by default as what it is (`page_renderer_for`).
    home
        A page beside it that it links to: its `page` and `title`.
    """
    views = (explanation, *explanation.beside)
    context = _context(explanation, shared, renderer or page_renderer_for(explanation))
    picture = context.picture
    height, width = picture.shape[:2]
    sound = context.sounds.embedded(context.renderer.sound(explanation.picture))  # before those of patches
    drawn = [_view(value, index, context) for index, value in enumerate(views)]
    return (
        environment()
        .get_template("page.html")
        .render(
            site=site,
            home=home,
            up=UP,
            headline=wording.headline(explanation),
            title="".join(text for text, _ in wording.headline(explanation)),
            image_name=explanation.provenance.get("image", ""),
            lead=wording.lead(explanation),
            number_means=wording.number_means(explanation),
            classes_title=wording.classes_title(explanation),
            layer_share_means=wording.LAYER_SHARE_MEANS,
            context_means=place_wording.CONTEXT_MEANS,
            effect_means=effect_wording.effect_means(explanation),
            prediction_share_means=wording.PREDICTION_SHARE_MEANS,
            used_by=wording.used_by(explanation),
            uses_mean=wording.USES_MEAN,
            mined_classes=wording.mined_classes(explanation.provenance.get("settings", {})),
            classes=list(_classes(explanation)),
            effects=any(part.effect for value in views for layer in value.layers for part in layer.ranked),
            graphs=any(value.graph for value in views),
            switches=any(layer.ablations for value in views for layer in value.layers),
            picture=formats.picture_uri(picture, side=STAGE_SIDE, quality=80),
            faded=formats.picture_uri(images.faded(picture), side=STAGE_SIDE, quality=50),
            inks=[_hex(colour) for colour in (images.AGAINST_INK, images.FOR_INK)],
            height=height,
            width=width,
            shown_smaller=wording.shown_smaller((height, width), STAGE_SIDE, context.block),
            whole=whole_view(context, "" if site is None else site["place"]),
            remark=context.renderer.remark(),
            ratio=f"{width / height:.4f}",
            small=max(height, width) <= images.SMALL_SIDE,
            ticks=context.renderer.ticks(context.space),
            views=drawn,
            rules=[*(sheet.rule() for sheet in context.heatmaps), *context.patches.rules()],
            columns=max((len(patches) for patches in _strips(views)), default=0),
            many=max(len(value.layers) for value in views) > MOST_LAYERS,
            packed_part=packed_part,
            script_json=script_json,
            planes=planes_view(explanation),
            sound=sound,
            sounds=context.sounds,
            sprites=[
                {"name": f"--s{index}", "uri": found["uri"]} for index, found in enumerate(context.glimpses.values())
            ],
            provenance=list(provenance_groups(explanation.provenance)),
            command=explanation.provenance.get("command", ""),
            numbers=packed_json(_in_nine_digits(_without_relevance(numbers(explanation)))),
            naming=script_json(
                [{"layer": one.layer, **one.naming.to_json()} for one in explanation.layers if one.naming is not None]
            ),
            cells=script_json(
                [
                    [
                        cells_view(value, layer, context)
                        | table
                        | ablations_block(value, layer)
                        for layer, table in zip(value.layers, tables, strict=True)
                    ]
                    for value, tables in zip(views, cell_tables(views, context), strict=True)
                ]
            ),
        )
    )


def script_json(content: Any) -> Markup:
    r"""Write JSON that may stand inside a script element: no character in it can end the element or a line of script.

    >>> str(script_json({"name": "</script>"}))
    '{"name":"\\u003c/script\\u003e"}'
    """
    # json.dumps escapes everything beyond ASCII, U+2028 and U+2029 among it.
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _without_relevance(content: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the relevance of all concepts of layers, which stands in the data of maps: the script puts it back."""
    layers = [{**layer, "relevance": None} for layer in content["layers"]]
    return {**content, "layers": layers, "beside": [_without_relevance(other) for other in content["beside"]]}


def _in_nine_digits(content: Any) -> Any:
    """Round all numbers to what tells one float32 from another."""
    if isinstance(content, float):
        return float(f"{content:.9g}")
    if isinstance(content, Mapping):
        return {name: _in_nine_digits(value) for name, value in content.items()}
    return [_in_nine_digits(value) for value in content] if isinstance(content, list | tuple) else content


@cache
def environment() -> jinja2.Environment:
    """Load the templates, with everything escaped."""
    return jinja2.Environment(
        loader=jinja2.DictLoader({name: content.decode() for name, content in template_files().items()}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _strips(views: Sequence[Explanation]) -> Iterator[Sequence[Patch]]:
    for view in views:
        for layer in view.layers:
            for part in layer.ranked:
                yield from (part.relevance_patches, part.activation_patches)


def _classes(explanation: Explanation) -> Iterator[dict[str, Any]]:
    for score in dict.fromkeys([*explanation.classes, explanation.target]):
        yield {
            "name": wording.class_name(score),
            "width": "" if wording.is_number(score) else f"{100 * score.probability:.2f}",
            "text": wording.class_value(score, explanation.best),
            "logit": f"{score.value:.2f}".replace("-", wording.MINUS),
            "explained": score == explanation.target,
            "index": score.index if isinstance(score, ClassScore) else "",
        }


def _context(explanation: Explanation, shared: Shared | None, renderer: PageRenderer) -> Context:
    views = (explanation, *explanation.beside)
    return Context(
        renderer=renderer,
        values=explanation.picture,
        picture=renderer.picture(explanation.picture),
        shared=shared,
        glimpses=embedded_glimpses(views, renderer) if shared is None else shared_glimpses(views, shared),
        colours=palette.concept_colours(explanation),
        patches=PatchSheets(renderer, shared),
        sounds=Sounds("a page" if shared is None else "a page or a concept"),
    )


def _view(explanation: Explanation, index: int, context: Context) -> dict[str, Any]:
    limits, place = layer_limits(explanation, context), outline_view(explanation, context.renderer)
    sheets = {layer.layer: context.heatmap_sheet(WHERE_SIDE) for layer in explanation.layers}
    heatmap = context.relevance(explanation.heatmap)
    # Concepts and layers of the first view have the short addresses.
    prefix = f"view-{index}-" if index else ""
    layers = [
        _layer(explanation, layer, f"{prefix}layer-{number}", number, limits[layer.layer], sheets[layer.layer], context)
        for number, layer in enumerate(explanation.layers)
    ]
    cards = {(layer["name"], card["concept"]): card["id"] for layer in layers for card in layer["cards"]}
    return {
        "index": index,
        "prefix": prefix,
        "question": wording.question(explanation),
        "subject": wording.subject(explanation),
        "against": explanation.against is not None,
        "heatmap": formats.tinted_uri(context.picture, heatmap, side=context.heatmap_side(STAGE_SIDE), quality=32),
        "heatmap_where": context.renderer.where(explanation.heatmap),
        "limit": f"±{wording.number(context.limit(explanation.heatmap))}",
        "layers": layers,
        "absorbed": conservation_wording.absorbed(explanation),
        "conserved": absorbed_is_a_share(explanation.absorbed),
        "negative": wording.negative(explanation),
        "outline": place and {**place, "index": index},
        "context": place_wording.prediction_context(explanation),
        "graph": explanation.graph and graph_view(explanation, cards, limits, sheets, context),
    }


def _layer(
    explanation: Explanation,
    layer: LayerExplanation,
    place: str,
    index: int,
    limit: float,
    sheet: HeatmapSheet,
    context: Context,
) -> dict[str, Any]:
    widest = max((abs(part.share) for part in layer.ranked), default=0) or 1
    cards = [
        card_view(explanation, part, layer, place, limit, widest, sheet, context)
        for part in layer.ranked
    ]
    colours = context.colours[layer.layer]
    return {
        "index": index,
        "name": layer.layer,
        "size": layer.size,
        "cards": cards,
        "opened": concentration_wording.open_cards(layer),
        "folded": concentration_wording.folded(layer),
        "concentration": concentration_wording.concentration(layer),
        "limit": f"±{wording.number(limit)}",
        "rest": layer.rest,
        "silent": not layer.shown + layer.rest,
        "ledger": wording.ledger(layer),
        "hidden": wording.hidden(layer),
        "coverage": conservation_wording.coverage(layer),
        "outside": outside(layer),
        "overlooked": effect_wording.overlooked(layer),
        "conserved": layer.first_order or coverage_is_a_share(layer.coverage),
        "map": layer.concept_map
        and concept_map_view(context.layer(layer), colours, {card["concept"]: card for card in cards}),
    }


def provenance_groups(provenance: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Arrange provenance as headed groups of (name, value), single values first under "input"."""
    plain = [
        (name, _text(value))
        for name, value in provenance.items()
        if not isinstance(value, Mapping) and name != "command"
    ]
    if plain:
        yield "input", plain
    for name, value in provenance.items():
        if isinstance(value, Mapping):
            yield name, [(str(key), _text(entry)) for key, entry in value.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)
