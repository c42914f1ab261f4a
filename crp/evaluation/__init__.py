"""Whether explanations are true: concepts are removed from the model, and what happens is compared with what was said.

================  ===================================================================================================
`evaluate`        measures rankings of concepts at some layers on some samples
`Evaluation`      the result: curves, correlations, agreement of signs, with standard errors
`Finding`         what one measure found at one place; `NAMES` of the measures, and the `DEFAULT` ones
`chosen_samples`  `Chosen` samples of a data set to evaluate on
================  ===================================================================================================
"""

from .evaluating import DEFAULT, NAMES, evaluate
from .evaluation import Evaluation, Figure, Finding, LayerEvaluation, RankingEvaluation
from .samples import Chosen, chosen_samples

__all__ = [
    "DEFAULT",
    "NAMES",
    "Chosen",
    "Evaluation",
    "Figure",
    "Finding",
    "LayerEvaluation",
    "RankingEvaluation",
    "chosen_samples",
    "evaluate",
]
