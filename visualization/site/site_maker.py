"""Write a site: many predictions and the concepts of their library, as linked pages that open from the disk.

    index.html                    all predictions
    compare.html                  two predictions or concepts side by side
    predictions/NAME.html         the page of one prediction; NAME.webp is its thumbnail, NAME.json what others need
    predictions/whole/NAME.avif   its picture in full, if the page shows it reduced
    concepts/LAYER/37.html        the page of one concept; index.html shows all concepts of the layer
    assets/, concepts/LAYER/...   files that pages share (`shared.py`)
    site.json                     marks the folder as a site, and names the library that its patches come from

NAME.json is written last, so a page is complete once it exists. It holds a fingerprint of everything that the page
depends on; a second run makes only what is missing or has changed. A layer's pages.json does the same for its concepts,
each of which depends on the predictions that show it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crp.analysis.class_means import class_deviation
from crp.arguments import layer_names
from crp.errors import CrpError, InputError
from crp.explanations.entries import Entry, appearances, entry_of, neighbours
from crp.failed_pictures import FailedPictures
from crp.files import user_path
from crp.library import Library, check_library
from crp.library.fingerprints import value_fingerprint
from crp.library.summary import model_name
from crp.progress import progress_bar
from crp.values import ClassScore
from crp.visualization.page import explanation_page as page
from crp.visualization.page.sounds import LIMIT
from crp.visualization.page_files import write_changed, write_page
from crp.visualization.picture_formats import PATCHES_SUFFIX, SUFFIX, VEILS_SUFFIX
from crp.visualization.sheets import LAYOUT
from crp.visualization.site.concept_page import ConceptPages
from crp.visualization.site.front_page import write_front
from crp.visualization.site.pictures import page_names, picture_labels
from crp.visualization.site.prediction_files import paths_of, stored_entry, write_prediction
from crp.visualization.site.sample_uses import SampleUses
from crp.visualization.site.shared import ASSETS, Shared

if TYPE_CHECKING:
    from torch import nn

    from crp.explanations.explanation import Explanation
    from crp.models import PreparedModel

FORMAT = "crp-atlas site"


def make_site(
    model: nn.Module | PreparedModel | None,
    pictures: Sequence[str | os.PathLike[str]],
    library: Library,
    folder: str | os.PathLike[str],
    *,
    layers: Sequence[str] | None = None,
    command: str = "",
    page_command: Callable[[Path], str] | None = None,
    labels: Mapping[str | os.PathLike[str], int | str] | None = None,
    labels_from: str = "",
    data: Any = None,
    progress: bool = True,
    **options: Any,
) -> Path:
    """Explain pictures, and write a page for each of them and for each concept of the layers.

    Complete pages are kept if nothing that they depend on has changed. Pages of pictures that are no longer given are
    removed. A picture that fails does not stop the others.

    Parameters
    ----------
    model
        The model that was mined; may be None for a site without pictures.
    pictures
        Picture files; an empty sequence makes a site of the concepts alone.
    library
        The library that was mined from this model.
    folder
        The site's folder: new, empty, or an earlier site.
    layers
        Layers of the library to show; all by default.
    command
        The command that makes this site, shown on its first page.
    page_command
        Returns the command that makes the page of one picture, shown at the foot of that page.
    labels
        By picture, its true class, by index or name; pictures may be left out. The index then says which predictions
        are right.
    labels_from
        Where the labels come from, said on the first page.
    data
        The mined data set with `sample_name(index)`, as `crp.sources.data.load_data` returns it: pages then name the
        samples, and link to their files if it has a `path` below which these are. By default the library's `samples`.
    progress
        Whether to show progress bars.
    options
        Options of `crp.explain`, except `provenance`.

    Returns
    -------
    Path
        Path of the first page.

    Raises
    ------
    InputError
        If a label is no class of the library, or belongs to no picture; if the folder holds something else or cannot be
        written; after all other pages are made, if pictures failed.
    LibraryError
        If the library was mined with another model or composite.
    KeyboardInterrupt
        With a note that says what is complete and how to continue.
    """
    about = {"command": command, "page_command": page_command or (lambda picture: ""), "labels": labels_from}
    site = _Site(model, pictures, library, user_path(folder), layers, about, labels or {}, data, options)
    return site.make(progress=progress)


class _Site:
    def __init__(
        self,
        model: Any,
        pictures: Sequence[str | os.PathLike[str]],
        library: Library,
        folder: Path,
        layers: Sequence[str] | None,
        about: dict[str, Any],
        labels: Mapping[str | os.PathLike[str], int | str],
        data: Any,
        options: dict[str, Any],
    ) -> None:
        # Explaining needs torch and zennit; drawing a finished explanation does not.
        from crp.models import ready_model

        check_library(library)
        layers = layer_names(layers or ())
        for layer in layers:
            library.shape(layer)
        composite = options.pop("composite", None)
        if pictures and model is None:
            raise InputError("Pictures are explained with a model: give the one that was mined.")
        if pictures:
            self.model = ready_model(model, composite, library=library)
            self.model.check(library)
        self.library, self.folder, self.options = library, folder, options
        self.layers = tuple(layers or reversed(library.layers))
        self.pictures = page_names(pictures)
        self.labels = picture_labels(labels, self.pictures, library)
        self.shared = Shared(library, folder, self.layers)
        if data is not None:
            library.samples = data
        self.samples = SampleUses(library, self.pictures)
        name = model_name(library.manifest)
        self.about = {
            "title": f"Concept atlas of {name}" if name else "Concept atlas",
            "predictions": len(self.pictures),
            **about,
            "layers": [{"name": layer, "page": f"{place}/index.html"} for layer, place in self.shared.places.items()],
        }
        self.drawing = _drawing()
        self.done = {"predictions": 0, "concept pages": 0}
        self.total = {
            "predictions": len(self.pictures),
            "concept pages": sum(library.statistics(layer).share.shape[1] for layer in self.layers),
        }

    def make(self, *, progress: bool) -> Path:
        before = self.folder.exists()
        self._open()
        try:
            return self._make(progress)
        except CrpError:
            if not before and not any((self.folder / "predictions").glob("*.json")):
                shutil.rmtree(self.folder)  # nothing was made
            raise

    def _make(self, progress: bool) -> Path:
        with self._interruptible():
            failed = FailedPictures(len(self.pictures))
            entries = self._predictions(failed, progress)
            self._concepts(entries, progress)
            index = self.folder / "index.html"
            # A site may be published: the path of the library stays private.
            facts = [fact for fact in self.library.facts() if fact[0] != "path"]
            write_front(entries, self.shared, self.about, facts)
            self.samples.write(self.folder)
        failed.report(f"could not be explained and are not in '{index}'")
        return index

    def _open(self) -> None:
        """Check that the folder is a site or may become one, and remove shared files of another library or layout."""
        stored, listed = {}, self.folder / "site.json"
        if self.folder.exists():
            stored = _read(listed)
            occupied = not self.folder.is_dir() or any(self.folder.iterdir())
            if occupied and stored.get("format") != FORMAT:
                raise InputError(f"'{self.folder}' exists and is not a site: choose another folder, or empty it.")
        # All concepts get pages, so all patches of these layers are needed.
        files = {layer: self.library.patch_files(layer) for layer in self.layers}
        every = {layer: range(self.library.limits(layer).concepts) for layer in self.layers}
        self.library.make_patches({layer: files[layer].keys(every[layer]) for layer in self.layers})
        self.digest = _digest(self.library)
        layout = [*LAYOUT, SUFFIX, PATCHES_SUFFIX, VEILS_SUFFIX, LIMIT]
        content = {"format": FORMAT, "library": self.digest, "layers": list(self.layers), "sheets": layout}
        if stored != content:
            shutil.rmtree(self.folder / "concepts", ignore_errors=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Written first, so that an interrupted site is recognised as a site.
            write_changed(listed, json.dumps(content, indent=1).encode())
            self.shared.write_assets()
        except OSError as error:
            reason = f"{error.strerror} ('{error.filename}')"
            raise InputError(f"No site can be written to '{self.folder}': {reason}.") from error

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt as interruption:
            complete = " and ".join(f"{self.done[kind]} of {self.total[kind]} {kind}" for kind in self.done)
            interruption.add_note(f"{complete} are complete in '{self.folder}'; the same command resumes from there.")
            raise

    # -- predictions

    def _predictions(self, failed: FailedPictures, progress: bool) -> list[Entry]:
        entries = []
        self._remove_others()
        with progress_bar("predictions", len(self.pictures), shown=progress, unit="page") as bar:
            for path, place in self.pictures.items():
                with failed.of(path):
                    entries.append(self._prediction(path, place))
                    self.done["predictions"] += 1
                bar.update()
        return entries

    def _remove_others(self) -> None:
        """Remove the pages of pictures that are no longer given."""
        for entry in (self.folder / "predictions").glob("*.json"):
            if entry.stem not in self.pictures.values():
                for file in paths_of(self.shared, entry.stem):
                    file.unlink(missing_ok=True)

    def _prediction(self, path: Path, place: str) -> Entry:
        """Make the page of a prediction, unless it is complete."""
        key = value_fingerprint(
            *(version("crp-atlas"), self.drawing, self.digest, self.samples.files, self.layers, self.options),
            # Whatever is not a file is refused when it is read.
            *(path.name, path.is_file() and _file_digest(path), self.about["page_command"](path)),
            self.labels.get(path),
        )
        files = paths_of(self.shared, place)
        stored = _read(files.data)
        complete = files.thumbnail.exists() and files.page.exists() and files.whole.exists() == stored.get("whole")
        if stored.get("key") == key and complete:
            return stored_entry(stored)
        for file in files:
            file.unlink(missing_ok=True)
        explanation = self._explained(path)
        label = self.labels.get(path)
        entry = entry_of(explanation, path.name, place, label=label, deviations=self._deviations(explanation))
        write_prediction(explanation, entry, self.shared, title=self.about["title"], key=key)
        return entry

    def _deviations(self, explanation: Explanation) -> dict[str, float]:
        """Compare the shares in each layer with their mean in the explained class."""
        found = {}
        for layer in explanation.layers:
            shares = layer.shares()
            if shares is None or not isinstance(explanation.target, ClassScore):
                continue
            value = class_deviation(self.library, layer.layer, shares, explanation.target.index)
            if value is not None:
                found[layer.layer] = value
        return found

    def _explained(self, path: Path) -> Explanation:
        from crp.explanations.computation import explain

        provenance = {"image": path.name, "command": self.about["page_command"](path)}
        return explain(self.model, path, self.library, layers=self.layers, provenance=provenance, **self.options)

    # -- concepts

    def _concepts(self, entries: Sequence[Entry], progress: bool) -> None:
        """Make the pages of concepts whose predictions have changed, and those of all layers."""
        shown, around = appearances(entries), neighbours(entries)
        about = {name: self.about[name] for name in ("title", "layers")}
        named = self.samples.files, self.samples.root(self.folder)
        common = version("crp-atlas"), self.drawing, self.digest, about, bool(entries), value_fingerprint(*named)
        total = self.total["concept pages"]
        with progress_bar("concepts", total, shown=progress, unit="page") as bar:
            for layer, place in self.shared.places.items():
                pages = ConceptPages(self.shared, layer, self.about, shown, around, self.samples)
                listed = self.folder / place / "pages.json"
                known = _read(listed)
                files = {str(concept): self.folder / place / f"{concept}.html" for concept in range(pages.size)}
                keys = {concept: value_fingerprint(common, pages.shown_on(int(concept))) for concept in files}
                made = {c: key for c, key in keys.items() if known.get(c) == key and files[c].exists()}
                if made != known:
                    # pages that are about to change are not listed, whatever interrupts this run
                    write_changed(listed, json.dumps(made).encode())
                try:
                    for concept, file in files.items():
                        if concept not in made:
                            write_page(file, pages.page(int(concept)))
                            made[concept] = keys[concept]
                        self.done["concept pages"] += 1
                        bar.update()
                finally:
                    in_order = {concept: made[concept] for concept in files if concept in made}
                    write_changed(listed, json.dumps(in_order).encode())
                write_page(self.folder / place / "index.html", pages.overview())


def _digest(library: Library) -> str:
    """Return a SHA-256 of the content of a library, which does not depend on its path."""
    digest = hashlib.sha256()
    files = [library.path / "manifest.json"]
    tables = ("references", "statistics", "patches")
    files += [library.file(layer, table) for layer in library.layers for table in tables]
    for file in files:
        digest.update(_file_digest(file).encode())
    made = {layer: library.patch_files(layer).made().tolist() for layer in library.layers}
    names = [library.naming(layer).to_json() for layer in library.layers]
    digest.update(json.dumps([made, names]).encode())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error


def _drawing() -> str:
    """Return a fingerprint of the templates and of the layout of sheets, which decide how a page is drawn.

    Files that pages share are not part of it: they are written anew in every run.
    """
    environment = page.environment()
    names = [name for name in environment.list_templates() if name not in ASSETS.values()]
    return value_fingerprint(LAYOUT, [environment.loader.get_source(environment, name)[0] for name in names])


def _read(path: Path) -> Mapping[str, Any]:
    """Read a JSON file of a site; empty if there is none or it is not one."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
