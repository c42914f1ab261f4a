"""The concept vector of a new prediction, made as mining makes those of the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from crp.attribution import RelevanceFlow
from crp.concepts import ChannelConcept, ConceptKind
from crp.models import check_composite, check_start, described_rules
from crp.relevance_shares import shares

if TYPE_CHECKING:
    from zennit.core import Composite

    from crp.library import Library

_CHANNELS = ChannelConcept()


def concept_vector(
    model: nn.Module,
    data: Tensor,
    library: Library,
    layer: str,
    *,
    target: int | str | None = None,
    composite: Composite | None = None,
    concept: ConceptKind = _CHANNELS,
) -> np.ndarray:
    """Signed share of each concept of a layer in one prediction, float64 `[C]`.

    Parameters
    ----------
    model, composite, concept
        Those that were mined.
    data
        Model input `[c, *S]` (`library.preprocessing.to_input(picture)` makes it of a picture).
    library
        What was mined.
    layer
        One of its layers.
    target
        Class to explain, by index or name; by default the predicted one.

    Raises
    ------
    InputError
        If layer, class or input do not fit.
    LibraryError
        If the library belongs to another model, composite or kind of concept.
    """
    library.shape(layer)
    library.check_model(model)
    library.check_concept_kind(concept)
    composite, rules = described_rules(model, composite)
    check_composite(library, rules)
    check_start(library)
    chosen = None if target is None else library.class_index(target)
    found = []
    with RelevanceFlow(model, composite, data[None], [layer]) as flow:
        explained = int(flow.prediction[0].argmax()) if chosen is None else chosen
        started = flow.output_relevance([explained])
        flow.sweep(started, [layer], lambda _, arriving: found.append(concept.total(arriving)[0]))
    return shares(found[0].double().cpu().numpy())
