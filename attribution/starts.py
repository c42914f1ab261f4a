"""Starts: the relevance with which an explanation begins, at the model's output.

============  =========================================================================================
`Logit`       the output for one class, the same class for every sample
`Logits`      the output for one class per sample
`Difference`  one start minus another: why this class and not that one?
`Given`       a number, a tensor or a function of the output
`AtClasses`   another start, kept at some classes and zero elsewhere
============  =========================================================================================

To add a start (a mask of a segmentation, a box, a similarity), write a frozen dataclass with the methods of `Start`.
Mining takes it in a `crp.mining.AttributionTarget`; `RelevanceFlow.output_relevance` takes it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from crp.class_names import class_name
from crp.errors import InputError
from crp.indices import class_ids, classes_of_samples


@runtime_checkable
class Start(Protocol):
    """Interface of a start."""

    def relevance(self, prediction: Tensor) -> Tensor:
        """Compute the relevance that starts at an output `[N, ...]`, in the output's shape."""

    def name(self, class_names: Sequence[str]) -> str:
        """Describe in a few words what starts, with names of classes where they are known."""


@dataclass(frozen=True)
class Logits:
    """The output for one class per sample, with its sign.

    Attributes
    ----------
    classes
        One class for each of `N` samples, or one for all of them.

    Examples
    --------
    >>> Logits([1, 0]).relevance(torch.tensor([[2.0, 3.0], [4.0, 5.0]]))
    tensor([[0., 3.],
            [4., 0.]])
    """

    classes: Sequence[int] | Tensor

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the output at the classes, and zero elsewhere.

        Raises
        ------
        InputError
            If the output is not `[N, classes]`, has no such class, or `N` is not the number of classes given.
        """
        if prediction.ndim != 2:
            raise InputError(
                f"Targets name classes of an output [N, classes]; this model's output is {list(prediction.shape)}."
            )
        classes = torch.tensor(classes_of_samples(self.classes, *prediction.shape), device=prediction.device)
        columns = torch.arange(prediction.shape[1], device=prediction.device)
        return prediction * (columns == classes[:, None]).to(prediction)

    def name(self, class_names: Sequence[str]) -> str:
        """Describe what starts."""
        return "the explained class of each sample"


@dataclass(frozen=True)
class Logit:
    """The output for one class, with its sign, in every sample.

    Examples
    --------
    >>> Logit(1).relevance(torch.tensor([[2.0, 3.0]])), Logit(1).name(["ant", "bee"])
    (tensor([[0., 3.]]), 'bee')
    """

    target: int

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the output at the class, and zero elsewhere; errors are those of `Logits`."""
        return Logits([self.target] * len(prediction)).relevance(prediction)

    def name(self, class_names: Sequence[str]) -> str:
        """Return the name of the class."""
        return class_name(class_names, self.target)


@dataclass(frozen=True)
class Difference:
    """One start minus another.

    With linear rules, relevance is linear in its start, so at every layer it is the difference of the two explanations.

    Examples
    --------
    >>> why = Difference(Logit(0), Logit(1))
    >>> why.relevance(torch.tensor([[2.0, 3.0]])), why.name(["ant", "bee"])
    (tensor([[ 2., -3.]]), 'ant − bee')
    """

    first: Start
    second: Start

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the difference of the relevance of the two starts."""
        return self.first.relevance(prediction) - self.second.relevance(prediction)

    def name(self, class_names: Sequence[str]) -> str:
        """Return both names with a minus sign between them."""
        return f"{self.first.name(class_names)} \N{MINUS SIGN} {self.second.name(class_names)}"


@dataclass(frozen=True)
class Given:
    """Relevance given by the caller: the `init_rel` of conditional attributions.

    Attributes
    ----------
    values
        None (the output itself), a number, a tensor that broadcasts to the output, or a function of the output that
        returns one.
    """

    values: float | Tensor | Callable[[Tensor], Tensor] | None = None

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the given relevance in the shape of the output.

        Raises
        ------
        InputError
            If it has another shape.
        """
        values = self.values
        if callable(values):
            start = values(prediction)
        elif isinstance(values, Tensor):
            start = values.to(prediction)
        elif values is not None:
            start = torch.full_like(prediction, float(values))
        else:
            start = prediction
        if start.shape == prediction.shape:
            return start
        try:
            return start.expand(prediction.shape)
        except RuntimeError:
            raise InputError(
                f"init_rel has the shape {list(start.shape)}; the relevance that starts has the shape "
                f"{list(prediction.shape)}, one row for each result."
            ) from None

    def name(self, class_names: Sequence[str]) -> str:
        """Describe what starts."""
        return "the whole output" if self.values is None else "relevance given by the caller"


@dataclass(frozen=True)
class AtClasses:
    """Another start, kept at some classes of each sample and zero elsewhere.

    Attributes
    ----------
    start
        The other start.
    classes
        For each sample its classes, in any form that `crp.indices.class_ids` reads; None to keep all.

    Examples
    --------
    >>> AtClasses(Given(1.0), [[0, 2], None]).relevance(torch.zeros(2, 3))
    tensor([[1., 0., 1.],
            [1., 1., 1.]])
    """

    start: Start
    classes: Sequence[Any]

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the relevance of the other start at the classes, and zero elsewhere.

        Raises
        ------
        InputError
            If a class does not exist, or there are not as many lists of classes as samples.
        """
        if len(self.classes) != len(prediction):
            raise InputError(f"{len(prediction)} samples need as many lists of classes, given {len(self.classes)}.")
        start = self.start.relevance(prediction)
        kept = torch.zeros_like(start)
        for row, classes in enumerate(self.classes):
            chosen = slice(None) if classes is None else list(class_ids(classes, start.shape[1]))
            kept[row, chosen] = start[row, chosen]
        return kept

    def name(self, class_names: Sequence[str]) -> str:
        """Describe what starts."""
        return f"{self.start.name(class_names)}, at some classes"
