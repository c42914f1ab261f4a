"""The cards of a layer's concepts, with their patches."""

from __future__ import annotations

from typing import Any

from crp.explanations import ConceptPart, Explanation, LayerExplanation
from crp.visualization import concept_names, effect_wording, place_wording, wording
from crp.visualization.page.context import Context
from crp.visualization.page.heatmap_sheets import HeatmapSheet
from crp.visualization.page.heatmaps import heatmap_view
from crp.visualization.page.patch_sheets import MODES, UP
from crp.visualization.page.patch_tiles import strip

# Heatmaps are embedded no larger than that.
WHERE_SIDE = 224
# Users of a concept that a card has room for.
USERS = 3
# Characters of a concept's name that fit into the heading of a card.
NAME_LENGTH = 40


def card_view(
    explanation: Explanation,
    part: ConceptPart,
    layer: LayerExplanation,
    place: str,
    limit: float,
    widest: float,
    sheet: HeatmapSheet,
    context: Context,
) -> dict[str, Any]:
    """Fill the card of one concept.

    Parameters
    ----------
    explanation, part
        What is explained, and the concept.
    layer
        The concept's layer.
    place
        What the card's id begins with.
    limit
        Where the scale of the layer's heatmaps ends.
    widest
        The absolute share at which the bar is full.
    sheet
        Where these heatmaps are drawn.
    context
        Of the page; the card is noted in `shown` if it is the first of its concept.
    """
    key, name = (part.layer, part.concept), layer.name_of(part.concept)
    own = f"{place}-concept-{part.concept}"
    first = context.shown.setdefault(key, own)
    node = explanation.graph.node(*key) if explanation.graph else None
    return {
        "id": own,
        "concept": part.concept,
        "of": f"{part.layer}/{part.concept}",
        # what people said; None where nobody can say anything, because the layer cannot be told from others
        "given": None if layer.naming is None else layer.naming.of(part.concept),
        "name": name,
        "title": wording.shortened(concept_names.heading(part.concept, name), NAME_LENGTH),
        "full": concept_names.full(*key, name),
        "in_sentence": concept_names.in_sentence(part.concept, name),
        "share": part.share,
        "share_text": wording.share_of_side(part),
        "prediction_share": "" if node is None else wording.share_of_all(node.share),
        "shares": wording.both_shares(explanation, part),
        "side": wording.side(part),
        "effect": effect_wording.effect(explanation, part),
        "context": place_wording.context(explanation, part),
        "disagreement": effect_wording.disagreement(part),
        "where": context.renderer.where(part.heatmap),
        "bar": f"{abs(part.share) / widest * 50:.2f}",
        "segment": f"{abs(part.share) * 100:.3f}",
        "colour": context.colours[part.layer][part.concept],
        "heatmap": heatmap_view(part.heatmap, limit, sheet, context),
        "users": [
            {"name": name, "text": wording.class_use(use)}
            for name, use in zip(users(explanation, part), part.classes, strict=False)
        ],
        # An earlier view shows them: the script brings them here, and without it a link leads there.
        "again": "" if first == own else first,
        **(_strips(part, context) if first == own else {}),
        "missing": wording.missing_patches(
            part.patches_missing, len(part.relevance_patches) + len(part.activation_patches)
        ),
        "page": "" if context.shared is None else UP + context.shared.page(*key),
    }


def users(explanation: Explanation, part: ConceptPart) -> list[str]:
    """Name the classes that a card lists; empty names where the library was not mined for classes."""
    return [use.name if wording.mined_for_classes(explanation) else "" for use in part.classes[:USERS]]


def _strips(part: ConceptPart, context: Context) -> dict[str, Any]:
    sheet, row = context.patches.place(part)
    strips = []
    for mode in MODES:
        patches = getattr(part, f"{mode}_patches")
        if context.shared is not None:
            sounds = context.shared.sounds(part.layer, part.concept, mode, patches, UP, context.sounds)
        else:
            sounds = [context.sounds.embedded(context.renderer.sound(patch.picture, patch.box)) for patch in patches]
        strips.append(strip(mode, patches, sounds, context.renderer) | {"row": row + MODES.index(mode)})
    return {"sheet": sheet, "strips": strips}
