"""Sounds of patches that pages of a site share, as WAV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crp.library.patches import MODES
from crp.values import Patch
from crp.visualization.inputs import PageRenderer
from crp.visualization.page.sounds import LIMIT
from crp.visualization.page_files import write_changed


def sound_name(concept: int, mode: str, rank: int) -> str:
    """Return the name of the file with the sound of a patch, in the folder of its layer."""
    return f"{concept}-{mode}-{rank}.wav"


def write_sounds(folder: Path, concept: int, rows: Sequence[Sequence[Patch]], renderer: PageRenderer) -> None:
    """Write the sounds of a concept's patches, as far as they fit into `LIMIT` bytes.

    Parameters
    ----------
    folder
        Of the layer.
    concept, rows
        The concept, and its patches by mode (`MODES`).
    renderer
        Makes the sounds.
    """
    used = 0
    for mode, patches in zip(MODES, rows, strict=True):
        for rank, patch in enumerate(patches):
            sound = renderer.sound(patch.picture, patch.box)
            if sound and used + len(sound) <= LIMIT:
                write_changed(folder / sound_name(concept, mode, rank), sound)
                used += len(sound)
