"""The concept vector of a new prediction, computed as mining computes those of the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from crp.attribution import RelevanceFlow
from crp.attribution.forward_pass import check_tensor
from crp.attribution.named_starts import Target, start_of
from crp.attribution.starts import Start
from crp.concepts import ChannelConcept, Kinds
from crp.library.store import check_library
from crp.models import PreparedModel, check_start, ready_model
from crp.relevance_shares import shares

if TYPE_CHECKING:
    from zennit.core import Composite

    from crp.library import Library

_CHANNELS = ChannelConcept()


def concept_vector(
    model: nn.Module | PreparedModel,
    data: Tensor,
    library: Library,
    layer: str,
    *,
    target: Target | None = None,
    composite: Composite | str | None = None,
    concept: Kinds = _CHANNELS,
) -> np.ndarray:
    """Compute the signed share of each concept of a layer in one prediction.

    Parameters
    ----------
    model, composite, concept
        Those that were mined; for many predictions the model once prepared by `crp.prepared`.
    data
        Model input `[c, *S]` (`library.preprocessing.to_input(picture)` converts a picture).
    library
        The library.
    layer
        One of its layers.
    target
        What is explained: a class by index or name, an expression of classes, or a start (`crp.attribution.starts`);
        by default the predicted class.

    Returns
    -------
    numpy.ndarray
        float64 `[C]`. The absolute values add up to 1, or are all 0 where no relevance arrives.

    Raises
    ------
    InputError
        If the layer, the class or the input does not fit.
    LibraryError
        If the library belongs to another model, composite or kind of concept; without a start also if its relevance
        does not start as the output of a class.
    """
    check_library(library)
    library.shape(layer)
    check_tensor(data)
    model = ready_model(model, composite, data[None], library)
    model.check(library, concept)
    if not isinstance(target, Start):
        check_start(library)
    found = []
    with RelevanceFlow(model.replica, None, data[None], [layer], layouts=library.layouts) as flow:
        chosen = int(flow.prediction[0].argmax()) if target is None else target
        started = flow.output_relevance(start_of(chosen, library.output_names, flow.prediction))
        parts = flow.parts(layer, concept)
        flow.sweep(started, [layer], lambda _, arriving: found.append(parts.relevance(arriving).total[0]))
    return shares(found[0].double().cpu().numpy())
