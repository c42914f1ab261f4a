"""A model made ready once, to be explained many times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from crp.attribution import Replica, prepare
from crp.library.fingerprints import weights_fingerprint
from crp.mining.subjects import check_same, described_rules

if TYPE_CHECKING:
    from zennit.core import Composite

    from crp.library import Library


@dataclass(frozen=True)
class PreparedModel:
    """A model with rules put on a copy of it, and what is needed to tell whether a library is its own.

    Attributes
    ----------
    replica
        The copy, which shares the model's weights in memory. They must not be changed while it is used.
    weights
        Their fingerprint.
    rules
        What a library says of a composite: its name, the reason for it, its rules and canonizers.
    """

    replica: Replica
    weights: str
    rules: dict[str, Any]

    def check(self, library: Library) -> None:
        """Refuse a library that was mined with other weights or another composite.

        Raises
        ------
        LibraryError
        """
        library.check_weights(self.weights)
        mined = library.manifest["composite"]
        check_same(mined, self.rules, ["name", "rules", "canonizers"], "This is not the composite of the library")


def prepared(model: nn.Module, composite: Composite | None = None) -> PreparedModel:
    """Make a model ready for many calls of `crp.explain`: its weights are read, and its rules put in place, once.

    Parameters
    ----------
    model
        The model that was mined. It is not changed.
    composite
        The composite that was mined with, if it was not the default.

    Examples
    --------
    >>> ready = crp.prepared(model)                                                # doctest: +SKIP
    >>> atlases = [crp.atlas(ready, image, library) for image in images]          # doctest: +SKIP
    """
    weights = weights_fingerprint(model)
    composite, rules = described_rules(model, composite)
    return PreparedModel(prepare(model, composite), weights, rules)
