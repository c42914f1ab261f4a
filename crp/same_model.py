"""What a model computes: its outputs for a library's test pattern, made when it is mined and compared afterwards.

How far they may differ is measured in mining. GPUs may round the operands of products to 11 significant bits (TF32):
four times the change that this makes is allowed. A larger difference is that of another function.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crp.attribution.copies import replicate
from crp.attribution.detectors import OUTPUT_NAME
from crp.attribution.forward_pass import checked_input
from crp.attribution.isolation import isolated_pass
from crp.attribution.plain_pass import plain_prediction
from crp.attribution.wrappers import check_module, unwrapped
from crp.errors import LibraryError, ModelError, shortened
from crp.library import Library
from crp.library.fingerprints import weights_fingerprint
from crp.library.known_outputs import KnownOutputs, chosen_values, known_outputs_in, pattern_values, shortened_values

# Four times the change by coarse products is allowed, but never less than this part of the largest value.
_TIMES, _LEAST = 4, 1e-4
# If more would have to be allowed, outputs tell nothing.
_MOST = 0.25

# By the pattern's shape and range: the output's shape and chosen values.
Computed = MutableMapping[tuple, tuple[tuple[int, ...], np.ndarray]]


def measured_outputs(model: nn.Module, sample: Tensor) -> dict[str, Any]:
    """Run a model on the test pattern, as it is and with coarse products, for the manifest of a library.

    Parameters
    ----------
    model
        The model.
    sample
        A sample `[c, *S]`, of which the pattern has the shape and the range.

    Returns
    -------
    dict
        As from `KnownOutputs.to_json`; or with the one key `omitted`, the reason why outputs cannot be compared.
    """
    if getattr(model, "explained_output", None) == OUTPUT_NAME:
        return {"omitted": "the outputs of a detector depend on the boxes that it finds"}
    least, greatest = float(sample.min()), float(sample.max())
    if least == greatest:
        greatest += 1.0
    pattern = pattern_values(sample.shape, least, greatest)
    try:
        (shape, exact), (again, coarse) = (_outputs(model, pattern, coarse=coarse) for coarse in (False, True))
    except Exception as error:  # whatever the model's code raises for what is no real sample
        return {"omitted": f"the model does not run on the test pattern: {shortened(error, 160)}"}
    if not (np.isfinite(exact).all() and exact.any()):
        return {"omitted": "the model's outputs for the test pattern are all 0, or not finite"}
    values = shortened_values(exact)
    known = KnownOutputs(least, greatest, shape, values, _LEAST)
    rounding = known.difference(coarse) if again == shape else np.inf
    if not _TIMES * rounding < _MOST:
        return {"omitted": "rounding errors alone change the model's outputs for the test pattern too much"}
    tolerance = max(_LEAST, float(f"{_TIMES * rounding:.1e}"))
    return KnownOutputs(least, greatest, shape, values, tolerance).to_json()


def check_model(library: Library, model: nn.Module) -> float | None:
    """Refuse a model that is not the mined one; read its weights and run it once.

    Returns
    -------
    float or None
        As from `check_same_model`.

    Raises
    ------
    LibraryError, ModelError
    """
    check_module(model)
    model = unwrapped(model)
    return check_same_model(library, model, weights_fingerprint(model), {})


def check_same_model(library: Library, model: nn.Module, weights: str, computed: Computed) -> float | None:
    """Refuse a model with other weights, with another part of its output, or that computes another function.

    Parameters
    ----------
    library
        The library.
    model
        The model, without a wrapper.
    weights
        The fingerprint of its weights.
    computed
        Outputs of the model that are known already; those that are computed are added.

    Returns
    -------
    float or None
        The largest difference of an output for the test pattern, as a part of the largest known output; None if the
        library holds none.

    Raises
    ------
    LibraryError
        If it is not the model that was mined.
    ModelError
        If it cannot run on the library's samples.
    """
    _check_weights(library, weights)
    _check_output(library, model)
    known = known_outputs_in(library.manifest)
    return None if known is None else _compared(library, model, known, computed)


def _check_weights(library: Library, given: str) -> None:
    mined = library.manifest["model"]["weights"]
    if mined != given:
        raise LibraryError(
            f"The library '{library.path}' was mined with other weights ({mined[:12]}, and this model has "
            f"{given[:12]}): use the model it was mined with, or mine a library for this one."
        )


def _check_output(library: Library, model: nn.Module) -> None:
    mined, given = library.manifest["model"].get("output"), getattr(model, "explained_output", None)
    if mined != given:
        raise LibraryError(
            f"The library '{library.path}' explains the part {shortened(mined)} of the model's output, and this model "
            f"gives {shortened(given)} (None: all of it): select the part with crp.select_output."
        )


def _compared(library: Library, model: nn.Module, known: KnownOutputs, computed: Computed) -> float:
    """Compare a model's outputs for the test pattern with those of the mined one."""
    size = tuple(library.manifest["data"]["shape"])
    key = size, known.least, known.greatest
    if key not in computed:
        computed[key] = _outputs(model, known.pattern(size))
    shape, values = computed[key]
    fact = f"The library '{library.path}' was mined with a model that has these weights and computes something else"
    remedy = "use the model as it was mined (activations, pooling, strides, eps of norms, forward), or mine it again."
    if shape != known.shape:
        raise LibraryError(
            f"{fact}: for the library's test pattern its output is {list(known.shape)}, this model's is {list(shape)}; "
            f"{remedy}"
        )
    off = known.difference(values)
    if not off <= known.tolerance:
        place = int(np.nan_to_num(np.abs(np.array(known.values) - values), nan=np.inf).argmax())
        raise LibraryError(
            f"{fact}: for the library's test pattern it gave {known.values[place]:.6g} where this model gives "
            f"{values[place]:.6g}, which differs by {off:.2g} of the largest output (rounding: {known.tolerance:.2g}); "
            f"{remedy}"
        )
    return off


@isolated_pass()
def _outputs(model: nn.Module, pattern: np.ndarray, *, coarse: bool = False) -> tuple[tuple[int, ...], np.ndarray]:
    """Run a model on one pattern `[c, *S]`: the shape of its output and up to 64 of its values, float64."""
    copy = replicate(model)
    weight = next((value for value in copy.parameters() if value.is_floating_point()), torch.zeros(()))
    data = torch.from_numpy(pattern)[None].to(weight.dtype)
    output = plain_prediction(copy, checked_input(copy, data), coarse=coarse)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise ModelError("The model's output is not a tensor of real numbers.")
    return tuple(output.shape[1:]) or (1,), chosen_values(output.double().cpu().numpy())
