"""Kinds of concept that break the protocol are refused in a sentence that names them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crp.concepts import ConceptKind, Layout, parts_of
from crp.errors import InputError


class Altered(ConceptKind):
    """Channels, whose parts are changed before they are returned."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change = change

    def size(self, layout: Layout) -> int:
        return layout.channels

    def parts(self, activation: Tensor, ids: list[int], layout: Layout) -> Tensor:
        masks = torch.eye(layout.channels).to(activation)[list(ids)]
        return self.change(layout.joined(layout.split(activation) * masks[:, None, :, None]))


@pytest.mark.parametrize(
    ("change", "returned"),
    [
        (lambda parts: parts.movedim(0, 1), r"\[3, 4, 4, 5\] of torch\.float64"),
        (lambda parts: parts.float(), r"\[4, 3, 4, 5\] of torch\.float32"),
    ],
)
def test_parts_of_another_shape_or_dtype_are_refused(change, returned):
    activation = torch.rand(3, 4, 5).double()
    correct = parts_of(Altered(lambda parts: parts), activation, Layout((4, 5)))
    assert torch.equal(correct.total(activation), activation.sum(2))
    wrong = parts_of(Altered(change), activation, Layout((4, 5)))
    message = rf"^Altered\.parts must return \[4, 3, 4, 5\] of torch\.float64, .* 4 concepts, and returned {returned}"
    with pytest.raises(InputError, match=message):
        wrong.part([[0, 1, 2, 3]])
    with pytest.raises(InputError, match=r"^Altered\.parts must return \[4, 1, 4, 5\]"):  # sample by sample
        wrong.total(activation)
