"""Forward passes of a plain copy in which a layer is read, and layers are changed: `Rerun`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from crp.attribution.copies import replicate
from crp.attribution.isolation import isolated_pass
from crp.attribution.named_layers import check_layer, on_layer
from crp.class_names import check_classes
from crp.errors import InputError, ModelError, shortened

# Samples in one pass.
BATCH = 50


class Rerun:
    """A plain copy of a model of which a layer is read.

    Parameters
    ----------
    model
        The caller's model, which is not changed.
    layer
        The layer that is read.
    changes
        By layer, a function of its output that is applied in every pass, after reading.

    Attributes
    ----------
    activation
        The layer's output in the last pass, before it was changed, `[N, *shape]`.
    """

    def __init__(
        self, model: nn.Module, layer: str, changes: Mapping[str, Callable[[Tensor], Tensor]] | None = None
    ) -> None:
        self._copy, self._layer = replicate(model), layer
        modules = dict(self._copy.named_modules())
        check_layer(modules, layer)
        self._calls = 0
        on_layer(modules, layer, self._visit)
        for changed, change in (changes or {}).items():
            on_layer(modules, changed, change)
        self._linear: list[tuple[str, Tensor, Tensor]] = []
        for name, module in modules.items():
            if type(module) is nn.Linear:
                module.register_forward_hook(self._keep(name))

    @isolated_pass()
    @torch.no_grad()
    def run(self, data: Tensor) -> Tensor:
        """Run the model on `data` `[N, c, *S]` and return its output.

        Raises
        ------
        ModelError
            If the output is not `[N, classes]`, or the layer is not called exactly once.
        """
        self._calls = 0
        self._linear.clear()
        output = self._copy(data)
        if self._calls != 1:
            raise ModelError(f"Layer '{self._layer}' is called {self._calls} times in a forward pass, not once.")
        if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] < 2:
            raise ModelError("A correction needs a model whose output is one number for each class, [N, classes].")
        self._output = output
        return output

    def features(self) -> tuple[str, Tensor]:
        """Return the linear layer that made the output of the last pass, and what it was given, `[N, D]`.

        Raises
        ------
        ModelError
            If the output was not made by a linear layer.
        """
        for name, given, made in reversed(self._linear):
            if made.shape == self._output.shape and torch.equal(made, self._output):
                return name, given
        raise ModelError(
            "The model's output is not that of a linear layer (torch.nn.Linear), so there is no last layer to fit; "
            "leave out a softmax after it."
        )

    def _visit(self, activation: Tensor) -> None:
        self._calls += 1
        if not isinstance(activation, Tensor):
            raise ModelError(f"Layer '{self._layer}' gives a {type(activation).__name__}, not a tensor.")
        self.activation = activation.clone()

    def _keep(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, given, made: self._linear.append((name, given[0], made.clone()))


def checked_samples(data: Tensor, labels: Tensor | None = None) -> None:
    """Refuse samples that are no tensor `[N, c, *S]`, or labels that are not one class for each.

    Raises
    ------
    InputError
    """
    if not isinstance(data, Tensor) or data.ndim < 2 or not len(data):
        raise InputError("A correction needs samples, a tensor [N, c, *S].")
    if labels is None:
        return
    if not isinstance(labels, Tensor):
        raise InputError(f"Labels are a tensor of whole numbers [{len(data)}], given {shortened(labels)}.")
    if labels.shape != (len(data),) or labels.is_floating_point():
        raise InputError(f"Labels are whole numbers [{len(data)}], given {list(labels.shape)} of {labels.dtype}.")


def as_classes(labels: Tensor, outputs: Tensor) -> Tensor:
    """Return labels `[N]` on the device of a model's outputs `[N, classes]`.

    Raises
    ------
    InputError
        If the model has no such class.
    """
    check_classes(labels.tolist(), outputs.shape[1])
    return labels.to(outputs.device)
