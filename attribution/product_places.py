"""Where the results of products of tensors lie, as the axes that they have in common say: `read_product`.

Each axis of an operand has a label, as in `torch.einsum`: axes of one label are one, and are summed if the result lacks
it. A result lies where the values of an operand lie, if those that are summed lie at one place: the rows of a matrix
product where the rows of the first matrix do. If they do not, as where a matrix mixes tokens, it lies between them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor

from crp.attribution.moved_places import Places, SeenCall, averaged

Labels = tuple[Hashable, ...]
_MATRICES = {"matmul", "mm", "bmm"}
PRODUCTS = {*_MATRICES, "rmatmul", "einsum", "linear"}


@dataclass(frozen=True)
class Product:
    """A product of tensors.

    Attributes
    ----------
    operands
        The tensors, each with the labels of its axes.
    result
        The labels of the result.
    """

    operands: Sequence[tuple[Tensor, Labels]]
    result: Labels

    def places(self, known: Sequence[Places | None], shape: Sequence[int]) -> Places | None:
        """Return the places of the result, of this shape, by those of the operands; None if none is known."""
        somewhere = [
            (labels, places)
            for (_, labels), places in zip(self.operands, known, strict=True)
            if places is not None and not places.nowhere
        ]
        for labels, places in somewhere:
            summed = [axis for axis, label in enumerate(labels) if label not in self.result]
            if places.equal_along(summed) and not places.indistinct:
                return self._in_result(places, labels, shape)
        if somewhere:  # where those that are summed lie on average
            return self._in_result(somewhere[0][1], somewhere[0][0], shape)
        some = next((places for places in known if places is not None), None)
        return some and Places.lost(shape, some)

    def axis(self, known: Sequence[int | None]) -> int | None:
        """Return the result's axis of channels, by those of the operands; None if it does not follow."""
        own = [labels[axis] for (_, labels), axis in zip(self.operands, known, strict=True) if axis is not None]
        for label in own:
            if label in self.result:
                return self.result.index(label)
        for (_, labels), axis in zip(self.operands, known, strict=True):
            if axis is not None:  # its channels are summed: those of the result are what it lacks
                new = [place for place, label in enumerate(self.result) if label not in labels]
                return new[0] if len(new) == 1 else None
        return None

    def _in_result(self, places: Places, labels: Labels, shape: Sequence[int]) -> Places:
        summed = [axis for axis, label in enumerate(labels) if label not in self.result]
        kept = [label for label in labels if label in self.result]
        order = [kept.index(label) for label in self.result if label in kept]
        index = tuple(slice(None) if label in kept else None for label in self.result)

        def moved(values: Tensor) -> Tensor:
            for axis in reversed(summed):
                values = averaged(values, axis).float().squeeze(axis)
            return values.permute(order)[index].expand(tuple(shape))

        return Places(tuple(map(moved, places.along)))


def read_product(call: SeenCall, result: Tensor) -> Product | None:
    """Return what a call of one of `PRODUCTS` multiplies; None if its labels are not read."""
    if call.name == "linear":
        values = call.argument(0, "input")
        shared = tuple(range(values.ndim - 1))
        return Product([(values, (*shared, "in"))], (*shared, "out"))
    if call.name == "einsum":
        return _read_equation(call)
    one, other = call.argument(0, "input"), call.argument(1, "mat2" if call.name in ("mm", "bmm") else "other")
    if call.name == "rmatmul":
        one, other = other, one
    if not isinstance(other, Tensor) or min(one.ndim, other.ndim) < 2:
        return None
    shared = tuple(range(result.ndim - 2))
    labels = [(*shared[len(shared) - each.ndim + 2 :], *ends) for each, ends in ((one, "ij"), (other, "jk"))]
    return Product([*zip((one, other), labels, strict=True)], (*shared, "i", "k"))


def _read_equation(call: SeenCall) -> Product | None:
    equation, operands = call.args[0], call.args[1:]
    if not isinstance(equation, str):
        return None
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = operands[0]
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    most = max((one.ndim - len(term) + 3 for one, term in zip(operands, terms, strict=True) if "." in term), default=0)

    def labels(term: str, count: int) -> Labels:
        before, dots, behind = term.partition("...")
        return (*before, *(range(most - count, most) if dots else ()), *behind)

    own = [labels(term, one.ndim - len(term) + 3) for one, term in zip(operands, terms, strict=True)]
    if any(len({*each}) < len(each) for each in own):
        return None  # a diagonal
    if not arrow:
        letters = given.replace(",", "").replace(".", "")
        result = "..." * (most > 0) + "".join(sorted(letter for letter in letters if letters.count(letter) == 1))
    return Product([*zip(operands, own, strict=True)], labels(result, most))
