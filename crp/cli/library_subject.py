"""What `crp suspects`, `crp fix` and `crp masks` read: the mined model, and samples for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from crp.concepts import ConceptKind
    from crp.correction.reading import Samples
    from crp.library import Library


@dataclass(frozen=True)
class LibrarySubject:
    """The model of a library, a data set, and samples of it to correct with and to measure with, on one device."""

    model: nn.Module
    dataset: object
    fitting: Samples
    held_out: Samples

    @property
    def samples(self) -> Samples:
        """All samples."""
        return self.fitting.joined(self.held_out)


def read_subject(
    library: Library, kind: ConceptKind, given: dict[str, Any], *, data: str, samples: int, labelled: bool
) -> LibrarySubject:
    """Read the model and samples that a command names.

    Parameters
    ----------
    library
        The library.
    kind
        The kind of its concepts, which is checked.
    given
        The options `model`, `weights`, `device` and `trust`.
    data, samples, labelled
        The data set, named as for `crp mine`; at most how many samples; whether they need labels.
    """
    from crp.correction.reading import read_samples
    from crp.models import check_concept_kind
    from crp.sources.data import load_data
    from crp.sources.fitting import pick_device
    from crp.sources.provenance import model_of

    check_concept_kind(library, kind)
    place = pick_device(given["device"])
    model = model_of(library, model=given["model"], weights=given["weights"], trust=given["trust"]).to(place)
    # without labels, folders need not have the names of classes
    names = library.class_names if labelled else None
    dataset = load_data(data, library.preprocessing, class_names=names or None)
    fitting, held_out = (one.to(place) for one in read_samples(dataset, samples, labelled=labelled))
    return LibrarySubject(model, dataset, fitting, held_out)
