"""Whether explanations are true: concepts are removed from the model, and what happens is compared with what was said.

================  ===================================================================================================
`evaluate`        measures rankings of concepts at some layers on some samples
`Evaluation`      the result: curves, correlations, agreement of signs, with standard errors
`chosen_samples`  samples of a data set to evaluate on
================  ===================================================================================================
"""

from .evaluating import evaluate
from .evaluation import Evaluation, LayerEvaluation, RankingEvaluation
from .samples import chosen_samples

__all__ = ["Evaluation", "LayerEvaluation", "RankingEvaluation", "chosen_samples", "evaluate"]
