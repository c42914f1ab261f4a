"""Lets a command's library make the patches that it does not have yet, and name its samples, from the mined data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crp.errors import CrpError

if TYPE_CHECKING:
    from torch import nn

    from crp.concepts import Kinds
    from crp.library import Library
    from crp.models import PreparedModel


def supply(
    library: Library, model: nn.Module | PreparedModel, concept: Kinds, *, data: str | None = None, trust: bool
) -> None:
    """Let a library make its missing patches and name its samples, from the mined data.

    These are named, or the library names them itself. Without such data a line says why patches stay missing; data that
    were named must fit.
    """
    from crp.mining import supply_patches
    from crp.sources.mined_starts import rule_of
    from crp.sources.provenance import data_of

    made, total = library.patch_counts()
    if made == total:
        name_samples(library, data=data, trust=trust)
        return
    try:
        found = data_of(library, data=data, trust=trust)
        supply_patches(library, model, found, concept=concept, targets=rule_of(library.manifest, found))
    except CrpError as error:
        if data is not None:
            raise
        click.echo(f"{total - made} patches have not been made yet, and cannot be made now: {error}", err=True)


def name_samples(library: Library, *, data: str | None = None, trust: bool) -> None:
    """Let a library name its samples as the mined data do, unless these are not where they were, or have changed."""
    from crp.mining.block_stream import SampleReader
    from crp.mining.dataset import check_first_samples
    from crp.sources.provenance import data_of

    try:
        found = data_of(library, data=data, trust=trust)
    except CrpError:
        if data is not None:
            raise
        return
    try:
        reader = SampleReader(found, labelled=False, skip_bad=True, preprocessing=library.preprocessing)
        check_first_samples(library, reader, "The data set cannot name the mined samples", skip_bad=True)
    except CrpError as error:
        click.echo(str(error), err=True)
        return
    library.samples = found
