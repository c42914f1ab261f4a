"""What the page's script needs to answer when its reader switches concepts off: outputs without them, as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from crp.explanations import Ablations, Explanation, LayerExplanation
from crp.values import ClassScore
from crp.visualization import wording
from crp.visualization.page.packing import packed_floats


def ablations_block(explanation: Explanation, layer: LayerExplanation) -> dict[str, Any]:
    """Collect the outputs of the model without some concepts of a layer; empty if there are none.

    There is a table for each way of removing concepts, as zero and, if that was measured, at their means. It is float32
    `[R, 1 + n + 1]`: what is explained, the logits of `n` classes, and the log of the sum of the exponentials of all
    others.
    """
    best, target = explanation.best, explanation.target
    ways = [way for way in (layer.ablations, layer.mean_ablations) if way is not None]
    if not ways:
        return {}
    return {
        "ablations": {
            "removed": [list(row) for row in ways[0].removed],
            "ways": [{"classes": [list(one) for one in way.classes], "table": _table(way)} for way in ways],
            # the class whose probability is explained; none for a difference, a start, or the only output
            "target": None if explanation.against is not None or wording.is_number(target) else target.index,
            "output": target.index if isinstance(target, ClassScore) and explanation.against is None else None,
            "subject": wording.subject(explanation),
            "difference": explanation.against is not None,
            "probabilities": best is not None and best.probability is not None,
            "independent": ways[0].independent,
            "spread": best is not None and wording.spread_over_many_classes(best),
        }
    }


def _table(found: Ablations) -> str:
    return packed_floats(np.concatenate([found.values[:, None], found.logits, found.others[:, None]], axis=1))
