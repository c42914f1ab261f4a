"""Starts: the relevance with which an explanation begins, at the model's output.

A start is a value that turns the output into relevance of the same shape. The sum of that relevance is the number that
is explained, and `name` says in a few words which number it is.

===============  ===========================  ======================================================================
start            output                       number that is explained
===============  ===========================  ======================================================================
`Logit`          `[N, classes]`               the output for one class, the same class for every sample
`Logits`         `[N, classes]`               the output for one class per sample
`LogOdds`        `[N, classes]`               a class against all others, weighted as in log(p / (1 − p))
`Sum`            any                          several starts together: a set of classes
`Difference`     any                          one start minus another: why this class and not that one?
`Distance`       `[N, outputs]`               how far the output of a regression is above a reference value
`ClassInMask`    `[N, classes, *S]`           a class of a segmentation, summed over a mask
`Token`          `[N, T, outputs]`            one output of one token
`Box`            `[N, proposals, classes]`    the class of one box of a detector (`crp.attribution.detectors`)
`Similarity`     `[N, D]`                     cosine similarity or dot product with another embedding
`Given`          any                          a number, a tensor or a function of the output
`AtClasses`      `[N, classes]`               another start, kept at some classes and zero elsewhere
===============  ===========================  ======================================================================

A start is accepted wherever a class is explained: `RelevanceFlow.output_relevance`, `crp.explain`, `crp.compose`,
`concept_vector`, `crp.mine(targets=...)`, an `AttributionTarget`, and `init_rel` of conditional attributions. To add
one, write a frozen dataclass with the methods of `Start`, and with that of `Placed` (`crp.attribution.start_places`) if
it lies somewhere in the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from crp.attribution.embedding_starts import Distance, Similarity
from crp.attribution.place_starts import Box, ClassInMask, Token
from crp.attribution.start_places import joint_place
from crp.class_names import class_name
from crp.errors import InputError
from crp.indices import class_ids, classes_of_samples
from crp.places import Place

__all__ = [
    "AtClasses",
    "Box",
    "ClassInMask",
    "Difference",
    "Distance",
    "Given",
    "LogOdds",
    "Logit",
    "Logits",
    "Similarity",
    "Start",
    "Sum",
    "Token",
    "held",
    "starts_at_classes",
]


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
class LogOdds:
    r"""A class against all others, each as strong as the model takes it to be.

    The log-odds of class :math:`c` are :math:`\log\frac{p_c}{1-p_c} = z_c - \log\sum_{k \ne c} e^{z_k}`, a soft minimum
    of the logit contrasts :math:`z_c - z_k` (Kauffmann et al. 2022, 'From clustering to cluster explanations via neural
    networks'). Relevance goes to the contrasts by the weights of the soft minimum,
    :math:`q_k = e^{z_k} / \sum_{j \ne c} e^{z_j}`, held constant as attention weights are:

    .. math:: R_c = z_c, \qquad R_k = -q_k z_k \quad (k \ne c).

    It adds up to the mean contrast :math:`\sum_{k \ne c} q_k (z_c - z_k)`. That is the log-odds plus the entropy of
    :math:`q`, at most :math:`\log(\text{classes} - 1)`; with two classes it is the log-odds. A number added to all
    logits does not change it. Scaling relevance to the log-odds themselves would conserve them, but would turn all
    signs around where they are negative and the mean contrast is positive.

    Attributes
    ----------
    classes
        One class for all samples, or one for each of `N` samples.

    Examples
    --------
    >>> LogOdds(0).relevance(torch.tensor([[2.0, 1.0, 1.0]])), LogOdds(0).name(["ant", "bee", "cat"])
    (tensor([[ 2.0000, -0.5000, -0.5000]]), 'ant against all others')
    """

    classes: int | Sequence[int] | Tensor

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the logit of the class, and of the others the negative weighted logits.

        Raises
        ------
        InputError
            If there is only one class; otherwise as `Logits`.
        """
        own = Logits(self.classes).relevance(torch.ones_like(prediction)).bool()
        if prediction.shape[1] < 2:
            raise InputError("A class against all others needs at least 2 classes; this model has one output.")
        weights = prediction.masked_fill(own, -torch.inf).softmax(1)
        return torch.where(own, prediction, -weights * prediction)

    def name(self, class_names: Sequence[str]) -> str:
        """Return the name of the class, if there is one for all samples, with what it is compared with."""
        known = class_name(class_names, self.classes) if isinstance(self.classes, int) else "the class of each sample"
        return f"{known} against all others"


@dataclass(frozen=True)
class Sum:
    """Several starts together, such as a set of classes.

    Examples
    --------
    >>> both = Sum((Logit(0), Logit(1)))
    >>> both.relevance(torch.tensor([[2.0, 3.0, 4.0]])), both.name(["ant", "bee", "cat"])
    (tensor([[2., 3., 0.]]), 'ant + bee')
    """

    parts: Sequence[Start]

    def __post_init__(self) -> None:
        """Check that there are parts.

        Raises
        ------
        InputError
            If there is none.
        """
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise InputError("A sum of starts needs at least one.")

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the sum of the relevance of the parts."""
        return torch.stack([part.relevance(prediction) for part in self.parts]).sum(0)

    def place(self, prediction: Tensor, space: tuple[int, ...]) -> Place | None:
        """Return the place that all parts have, if it is the same; see `crp.attribution.start_places`."""
        return joint_place(self.parts, prediction, space)

    def held(self, prediction: Tensor) -> Sum:
        """Return the sum of the parts as they start at an output; see `held`."""
        return Sum([held(part, prediction) for part in self.parts])

    def name(self, class_names: Sequence[str]) -> str:
        """Return the names with plus signs between them."""
        return " + ".join(part.name(class_names) for part in self.parts)


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

    def place(self, prediction: Tensor, space: tuple[int, ...]) -> Place | None:
        """Return the place of both starts, if it is the same; see `crp.attribution.start_places`."""
        return joint_place((self.first, self.second), prediction, space)

    def held(self, prediction: Tensor) -> Difference:
        """Return the difference of both starts as they start at an output; see `held`."""
        return Difference(held(self.first, prediction), held(self.second, prediction))

    def name(self, class_names: Sequence[str]) -> str:
        """Return both names with a minus sign between them."""
        second = self.second.name(class_names)
        if isinstance(self.second, Sum | Difference | Distance):
            second = f"({second})"
        return f"{self.first.name(class_names)} \N{MINUS SIGN} {second}"


@dataclass(frozen=True)
class Given:
    """Relevance given by the caller: the `init_rel` of conditional attributions.

    Attributes
    ----------
    values
        None (the output itself), a number, a tensor that broadcasts to the output, a function of the output that
        returns one, or another start.
    """

    values: float | Tensor | Callable[[Tensor], Tensor] | Start | None = None

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the given relevance in the shape of the output.

        Raises
        ------
        InputError
            If it has another shape.
        """
        values = self.values
        if isinstance(values, Start):
            start = values.relevance(prediction)
        elif callable(values):
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

    def held(self, prediction: Tensor) -> Given:
        """Return another start as it starts at an output; see `held`."""
        return Given(held(self.values, prediction)) if isinstance(self.values, Start) else self

    def name(self, class_names: Sequence[str]) -> str:
        """Describe what starts."""
        if isinstance(self.values, Start):
            return self.values.name(class_names)
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

    def held(self, prediction: Tensor) -> AtClasses:
        """Return the other start as it starts at an output; see `held`."""
        return AtClasses(held(self.start, prediction), self.classes)

    def name(self, class_names: Sequence[str]) -> str:
        """Describe what starts."""
        return f"{self.start.name(class_names)}, at some classes"


def held(start: Start, prediction: Tensor) -> Start:
    """Return a start with the places that it has at an output, where it looks for them.

    What is measured when concepts are removed is then the same number at the same places.

    Parameters
    ----------
    start
        Any start. One that chooses places by the output (`ClassInMask` without a mask), or is made of such starts, has
        a method `held` of its own.
    prediction
        The model's output before anything is removed, `[N, ...]`.
    """
    return start.held(prediction) if hasattr(start, "held") else start


def starts_at_classes(start: Start) -> bool:
    """Return whether a start is made of the logits of classes, so that the model's output has class probabilities.

    >>> starts_at_classes(Difference(Logit(0), Logit(1))), starts_at_classes(Similarity(torch.ones(2)))
    (True, False)
    """
    if isinstance(start, Difference):
        return starts_at_classes(start.first) and starts_at_classes(start.second)
    if isinstance(start, Sum):
        return all(map(starts_at_classes, start.parts))
    return isinstance(start, Logit | Logits | LogOdds)
