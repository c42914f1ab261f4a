"""What the page's script needs to answer when its reader switches concepts off: outputs without them, as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from crp.explanations import Explanation, LayerExplanation
from crp.values import ClassScore
from crp.visualization import wording
from crp.visualization.page.packing import packed_floats


def ablations_block(explanation: Explanation, layer: LayerExplanation) -> dict[str, Any]:
    """Collect the outputs of the model without some concepts of a layer; empty if there are none.

    The table is float32 `[R, 1 + n + 1]`: what is explained, the logits of `n` classes, and the log of the sum of the
    exponentials of all others.
    """
    found, best, target = layer.ablations, explanation.best, explanation.target
    if found is None:
        return {}
    table = np.concatenate([found.values[:, None], found.logits, found.others[:, None]], axis=1)
    return {
        "ablations": {
            "removed": [list(row) for row in found.removed],
            "classes": [[index, name] for index, name in found.classes],
            "table": packed_floats(table),
            # the class whose probability is explained; none for a difference, a start, or the only output
            "target": None if explanation.against is not None or wording.is_number(target) else target.index,
            "output": target.index if isinstance(target, ClassScore) and explanation.against is None else None,
            "subject": wording.subject(explanation),
            "difference": explanation.against is not None,
            "probabilities": best is not None and best.probability is not None,
            "independent": found.independent,
            "spread": best is not None and wording.spread_over_many_classes(best),
        }
    }
