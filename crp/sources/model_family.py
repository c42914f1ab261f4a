"""What a family of named models consists of, and weights files for models that a package makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from crp.media.any_preprocessing import AnyPreprocessing
from crp.sources.weights import put_weights, read_weights

DEFAULT_WEIGHTS = "DEFAULT"


@dataclass(frozen=True)
class ModelFamily:
    """Models that have a name in a package, such as `torchvision:resnet18`. Each function takes name and weights.

    Attributes
    ----------
    load
        Returns the model. The weights are a file, `"DEFAULT"` or None.
    preprocessing
        Returns how pictures become the model's input.
    class_names
        Returns the names of the model's classes; None if they are not known.
    output
        The part of the model's output to explain by default; None for all of it.
    random
        Whether the model is random without weights.
    """

    load: Callable[[str, str | Path | None], nn.Module]
    preprocessing: Callable[[str, str | Path | None], AnyPreprocessing]
    class_names: Callable[[str, str | Path | None], tuple[str, ...] | None]
    output: str | None = None
    random: bool = False


def with_weights(make: Callable[..., nn.Module], weights: str | Path | None) -> nn.Module:
    """Make a model and load a weights file into it.

    Parameters
    ----------
    make
        Makes the model. It takes `num_classes`, and is called with it if the weights are those of a fine-tuned model
        with another number of classes.
    weights
        As in `read_weights`; None for the initial weights.

    Raises
    ------
    InputError
        If the weights cannot be read or do not fit.
    """
    if weights is None:
        return make()
    state, model = read_weights(weights), make()
    classes = _other_number_of_classes(model, state)
    if classes is not None:
        model = make(num_classes=classes)
    put_weights(model, state, weights)
    return model


def _other_number_of_classes(model: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes of a fine-tuned state dict, if nothing else differs from the model."""
    own = model.state_dict()
    wrong = [
        (own[name].shape, value.shape)
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    counts = {given[0] for ours, given in wrong if len(given) == len(ours) > 0 and given[1:] == ours[1:]}
    only_counts = all(len(given) == len(ours) and given[1:] == ours[1:] for ours, given in wrong)
    return counts.pop() if len(counts) == 1 and only_counts else None
