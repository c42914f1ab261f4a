"""Lets a command's library make the patches that it does not have yet."""

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
    """Let a library make its missing patches, from the mined data that are named, or that it names itself.

    Without such data a line says why they stay missing; data that were named must fit.
    """
    from crp.mining import supply_patches
    from crp.sources.mined_starts import rule_of
    from crp.sources.provenance import data_of

    made, total = library.patch_counts()
    if made == total:
        return
    try:
        found = data_of(library, data=data, trust=trust)
        supply_patches(library, model, found, concept=concept, targets=rule_of(library.manifest, found))
    except CrpError as error:
        if data is not None:
            raise
        click.echo(f"{total - made} patches have not been made yet, and cannot be made now: {error}", err=True)
