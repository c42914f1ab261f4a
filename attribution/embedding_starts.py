"""Starts at outputs without classes: the similarity of two embeddings, the distance of a value from a reference.

They are public in `crp.attribution.starts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crp.class_names import class_index, class_name
from crp.errors import InputError, shortened


@dataclass(frozen=True, eq=False)
class Similarity:
    r"""How similar an embedding is to another one.

    Relevance starts at each entry as its product with the reference. For the cosine, both norms are held constant, as
    in a norm layer: :math:`R_i = e_i r_i / (\lVert e \rVert \lVert r \rVert)`. It adds up to the cosine similarity
    (or the dot product).

    Attributes
    ----------
    reference
        The other embedding, `[D]`: the model's output for another picture, or the embedding of a text. `[N, D]` for one
        reference per sample.
    label
        What the reference is called.
    cosine
        Whether the similarity is the cosine, or the dot product.

    Examples
    --------
    >>> alike = Similarity(torch.tensor([0.0, 2.0]), "photo 3.jpg")
    >>> alike.relevance(torch.tensor([[3.0, 4.0]])).tolist(), alike.name([])
    ([[0.0, 0.800000011920929]], 'similarity to photo 3.jpg')
    """

    reference: Tensor
    label: str = "the reference"
    cosine: bool = True

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return what each entry of the embedding contributes to the similarity.

        Raises
        ------
        InputError
            If the output is not `[N, D]`, the reference has another length or is not finite, or, for the cosine, an
            embedding is zero.
        """
        if prediction.ndim != 2:
            raise InputError(f"A similarity needs an output [N, D]; this model's output is {list(prediction.shape)}.")
        reference = torch.as_tensor(self.reference).detach().to(prediction)
        if reference.shape[-1:] != prediction.shape[1:] or reference.shape[:-1] not in ((), (1,), prediction.shape[:1]):
            raise InputError(
                f"The reference has the shape {list(reference.shape)}, and the model's output "
                f"{list(prediction.shape)}: both are embeddings of the same length."
            )
        if not reference.isfinite().all():
            raise InputError("The reference holds NaN or infinite values.")
        products = prediction * reference
        if not self.cosine:
            return products
        norms = prediction.norm(dim=-1, keepdim=True) * reference.norm(dim=-1, keepdim=True)
        if not norms.all():
            which = "the reference" if not reference.norm(dim=-1).all() else "the model's output"
            raise InputError(f"A cosine similarity needs embeddings that are not zero, and {which} is zero.")
        return products / norms

    def name(self, class_names: Sequence[str]) -> str:
        """Say what the embedding is compared with."""
        return f"{'similarity to' if self.cosine else 'dot product with'} {self.label}"


@dataclass(frozen=True)
class Distance:
    r"""How far the value of a regression is above a reference value.

    Relevance :math:`y - \tilde y` starts at the output, so the explanation adds up to the distance from the reference,
    as Letzgus et al. (2022, 'Toward explainable AI for regression models') ask for. The network is not changed. So
    concepts keep their proportions, and the reference decides the size and the sign of the whole.

    Attributes
    ----------
    reference
        The value to compare with.
    target
        Which output, if the model has several.

    Examples
    --------
    >>> Distance(3.5).relevance(torch.tensor([[5.0]])), Distance(3.5).name([])
    (tensor([[1.5000]]), 'output − 3.5')
    """

    reference: float
    target: int = 0

    def __post_init__(self) -> None:
        """Check the reference.

        Raises
        ------
        InputError
            If it is not a finite number.
        """
        if isinstance(self.reference, bool) or not isinstance(self.reference, int | float):
            raise InputError(f"A reference value is a number, given {shortened(self.reference)}.")
        if not math.isfinite(self.reference):
            raise InputError(f"A reference value is a finite number, given {self.reference}.")

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the output minus the reference, and zero at other outputs.

        Raises
        ------
        InputError
            If the output is not `[N, outputs]`, or has no such output.
        """
        if prediction.ndim != 2:
            raise InputError(
                f"A distance from a value needs an output [N, outputs]; this model's output is "
                f"{list(prediction.shape)}."
            )
        column = class_index((), self.target, prediction.shape[1])
        distance = torch.zeros_like(prediction)
        distance[:, column] = prediction[:, column] - self.reference
        return distance

    def name(self, class_names: Sequence[str]) -> str:
        """Return the name of the output and the reference."""
        return f"{class_name(class_names, self.target, 1)} \N{MINUS SIGN} {self.reference:g}"
