"""The check that relevance is finite wherever it is read."""

from __future__ import annotations

from torch import Tensor

from crp.errors import ModelError


def check_finite(relevance: Tensor, where: str, above: str) -> None:
    """Refuse relevance that holds NaN or infinite values.

    Parameters
    ----------
    relevance
        Any shape.
    where
        Where it arrives, for the message: `"at layer 'conv5'"`.
    above
        The nearest place above where relevance is finite: `"at the output"`.

    Raises
    ------
    ModelError
        If a value is not finite.
    """
    if not bool(relevance.isfinite().all()):
        raise ModelError(
            f"Relevance is not finite (NaN or infinite) {where}, but it is {above}: give model and input in float64, "
            "or a composite with other rules for the layers in between."
        )
