"""Files that the pages of a site share: script and style, and the patches of every concept.

    assets/page.css, page.js, ...      styles and scripts
    assets/names.js                    what people said about concepts, so that all pages tell the same
    assets/order.js                    the predictions in order, for links to the previous and the next page
    predictions/whole/NAME.avif        a picture in full that its page shows reduced
    assets/predictions.js              what the index shows of them (`prediction_data.py`)
    concepts/LAYER/shares.js           the predictions that use each concept, and its shares
    concepts/LAYER/glimpses.webp       one patch of every concept; glimpses.json lists the concepts in order
    concepts/LAYER/37.avif             all patches of a concept; 37-veils.webp washes out parts of them
    concepts/LAYER/37-relevance-0.wav  the sound of a patch, where patches can be played

Pictures are WebP or JPEG files where Pillow cannot write AVIF or WebP. Files of `concepts` are made when they are first
needed and then kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from PIL import Image

from crp.library import Library
from crp.library.patches import MODES
from crp.media.medium import Medium
from crp.values import Patch
from crp.visualization import sheets
from crp.visualization.inputs.choosing import page_renderer_of
from crp.visualization.inputs.laid_out import drawn_patch
from crp.visualization.package_files import template_files
from crp.visualization.page.sounds import Sounds
from crp.visualization.page_files import file_name, write_changed
from crp.visualization.picture_formats import PATCHES_SUFFIX, SUFFIX, VEILS_SUFFIX, patches_photo, photo, veils_picture
from crp.visualization.sheets import SIDE, Glimpses, Sheet
from crp.visualization.site.sound_files import sound_name, write_sounds

ASSETS = {"page.css": "style.css", "page.js": "script.js"} | {
    name: name
    for name in ("naming.css", "naming.js", "site.css", "site.js", "triage.css", "index.js", "compare.js", "concept.js")
}


class Shared:
    """Files in a site's folder, and how pages refer to them.

    Parameters
    ----------
    library
        Source of the patches.
    folder
        Folder of the site.
    layers
        Layers whose concepts have pages.
    """

    def __init__(self, library: Library, folder: Path, layers: Sequence[str]) -> None:
        self.library = library
        self.folder = folder
        medium = library.preprocessing if isinstance(library.preprocessing, Medium) else None
        # Libraries converted from other systems do not store the shape of their samples, which are images.
        self.renderer = page_renderer_of(medium, len(library.manifest["data"].get("shape") or "cHW") - 1)
        self.places: dict[str, str] = {}
        for layer in layers:
            self.places[layer] = f"concepts/{file_name(layer, {Path(place).name for place in self.places.values()})}"
        self._sheets: dict[tuple[str, int], Sheet] = {}
        self._glimpses: dict[str, Glimpses] = {}

    @cached_property
    def assets(self) -> dict[str, bytes]:
        """Scripts and styles of the package, by file name."""
        return {name: template_files()[source] for name, source in ASSETS.items()}

    def write_assets(self) -> None:
        """Make the folders, and write scripts and styles."""
        for place in ("assets", "predictions", *self.places.values()):
            (self.folder / place).mkdir(parents=True, exist_ok=True)
        for name, content in self.assets.items():
            write_changed(self.folder / "assets" / name, content)
        self.write_names()
        if not (self.folder / "assets" / "order.js").exists():
            self.write_order([])

    def write_order(self, predictions: Sequence[tuple[str, str]]) -> None:
        """Write page and name of each prediction as a script.

        All pages load it, so that a new prediction does not change the pages before and after it.
        """
        content = f"window.predictions = {json.dumps(predictions)};\n"
        write_changed(self.folder / "assets" / "order.js", content.encode())

    def write_names(self) -> None:
        """Write how the library's concepts are named as a script, for `naming.js`."""
        told = [{"layer": layer, **self.library.naming(layer).to_json()} for layer in self.places]
        write_changed(self.folder / "assets" / "names.js", f"window.conceptNaming = {json.dumps(told)};\n".encode())

    def write_whole_picture(self, place: str, content: bytes) -> str:
        """Write the picture of a prediction in full, and return its address, relative to the site's folder."""
        path = self.whole_picture(place)
        path.parent.mkdir(exist_ok=True)
        write_changed(path, content)
        return path.relative_to(self.folder).as_posix()

    def whole_picture(self, place: str) -> Path:
        """Return the path of the picture of a prediction in full, which exists if its page shows it reduced."""
        return self.folder / "predictions" / "whole" / f"{place}{PATCHES_SUFFIX}"

    def page(self, layer: str, concept: int) -> str:
        """Return the address of a concept's page, relative to the site's folder."""
        return f"{self.places[layer]}/{concept}.html"

    def patches(self, layer: str, concept: int) -> list[tuple[Patch, ...]]:
        """Read all patches of a concept, by mode (`MODES`)."""
        return list(self.library.patches_of(layer, [(concept, mode) for mode in MODES]).values())

    def missing(self, layer: str, concept: int) -> int:
        """Count the patches of a concept that have not been made yet."""
        files = self.library.patch_files(layer)
        return len(files.missing(files.keys([concept])))

    def sheet(self, layer: str, concept: int, patches: Sequence[Sequence[Patch]] | None = None) -> Sheet:
        """Return where the patches of a concept lie on its sheet, which is made if it does not exist.

        Parameters
        ----------
        layer, concept
            The concept.
        patches
            Its patches by mode, if they have been read already.
        """
        key = layer, concept
        if key not in self._sheets:
            place = self.folder / self.places[layer]
            pictures, veils = place / f"{concept}{PATCHES_SUFFIX}", place / f"{concept}{VEILS_SUFFIX}"
            if pictures.exists() and veils.exists():
                with Image.open(pictures) as picture:
                    self._sheets[key] = Sheet(picture.height // SIDE, picture.width // SIDE)
            else:
                rows = self.patches(layer, concept) if patches is None else patches
                self._sheets[key] = sheets.sheet_of(rows)
                if self._sheets[key].rows:
                    write_sounds(place, concept, rows, self.renderer)
                    drawn = [[drawn_patch(patch, self.renderer) for patch in of_mode] for of_mode in rows]
                    write_changed(pictures, patches_photo(sheets.patch_sheet(drawn)))
                    write_changed(veils, veils_picture(sheets.veil_sheet(drawn)))
        return self._sheets[key]

    def glimpses(self, layer: str) -> Glimpses:
        """Return where one patch of every concept lies on the layer's sheet, which is made if it does not exist."""
        if layer not in self._glimpses:
            place = self.folder / self.places[layer]
            listed, picture = place / "glimpses.json", place / f"glimpses{SUFFIX}"
            if not (listed.exists() and picture.exists()):
                concepts = range(self.library.limits(layer).concepts)
                found = self.library.patches_of(layer, [(concept, "relevance") for concept in concepts], count=1)
                shown = {
                    concept: drawn_patch(patches[0], self.renderer)
                    for (concept, _), patches in found.items()
                    if patches
                }
                sheet, glimpses = sheets.glimpse_sheet(
                    shown, side=sheets.GLIMPSE_SIDE, columns=sheets.glimpse_columns(len(shown))
                )
                write_changed(picture, photo(sheet, quality=40))
                write_changed(listed, json.dumps(glimpses.concepts).encode())
            concepts = json.loads(listed.read_bytes())
            self._glimpses[layer] = Glimpses(tuple(concepts), sheets.glimpse_columns(len(concepts)))
        return self._glimpses[layer]

    def glimpse_uri(self, layer: str, up: str) -> str:
        """Return the address of the layer's sheet of glimpses; empty if no concept has one."""
        return f"{up}{self.places[layer]}/glimpses{SUFFIX}" if self.glimpses(layer).concepts else ""

    def sheet_rule(self, name: str, layer: str, concept: int, up: str) -> str:
        """Say where the patches of a concept lie, as `sheets.sheet_rule`; empty if it has none.

        `up` leads from the page to the site's folder.
        """
        place, sheet = f"{up}{self.places[layer]}/{concept}", self.sheet(layer, concept)
        if not sheet.rows:
            return ""
        return sheets.sheet_rule(name, f"{place}{PATCHES_SUFFIX}", f"{place}{VEILS_SUFFIX}", sheet)

    def sounds(
        self, layer: str, concept: int, mode: str, patches: Sequence[Patch], up: str, sounds: Sounds
    ) -> list[str]:
        """Return the address of the sound of each of the first patches of one mode; empty for those without.

        Sounds that were left out are counted in `sounds`.
        """
        return [self._sound(layer, concept, mode, rank, patch, up, sounds) for rank, patch in enumerate(patches)]

    def _sound(
        self, layer: str, concept: int, mode: str, rank: int, patch: Patch, up: str, sounds: Sounds
    ) -> str:
        """Return the address of the sound of a patch on its concept's sheet; empty if it has none."""
        self.sheet(layer, concept)  # is made with its sounds
        name = sound_name(concept, mode, rank)
        if (self.folder / self.places[layer] / name).exists():
            return f"{up}{self.places[layer]}/{name}"
        sounds.left_out += bool(self.renderer.sound(patch.picture, patch.box))
        return ""

