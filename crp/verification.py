"""Whether a library is whole, unchanged, and true: `verify` says what it looked at and what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from crp.concepts import ChannelConcept, ConceptKind
from crp.errors import CrpError, InputError, LibraryError
from crp.library.checksums import wrong_files
from crp.library.patches import MODES, LayerPatches, decoded
from crp.library.references import ClassStatistics, References
from crp.library.store import Library, open_library
from crp.mining.block_stream import blocks
from crp.mining.dataset import check_data, data_subject
from crp.mining.mined_model import model_subject
from crp.mining.runtime import surroundings
from crp.mining.scores import Score
from crp.mining.survey import Surveyor
from crp.mining.tally import Tally
from crp.mining.targets import TargetRule, named_rule
from crp.models import PreparedModel, check_concept_kind, check_model, check_shapes, ready_model

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

_CHANNELS = ChannelConcept()

# By the precision of the pass: how far a score computed again may be off, relative to the largest of its kind in the
# layer. On the same machine it is off by nothing; other machines and versions add up in another order, and GPUs round
# float32 to 10 bits in convolutions (TF32).
TOLERANCES = {"float64": 1e-9, "float32": 1e-3, "tf32": 1e-2, "bfloat16": 5e-2}

# Computed together where a library does not say (one made of another system's files).
_BLOCK_SIZE = 32


@dataclass
class Verification:
    """What was looked at in a library and what was found, in whole sentences.

    Attributes
    ----------
    path
        The library.
    held
        What was looked at and is right.
    wrong
        What is not.
    notes
        What was not looked at, and files that do not belong there.
    """

    path: Path
    held: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    def __str__(self) -> str:
        marked = (("ok", self.held), ("note", self.notes), ("WRONG", self.wrong))
        return "\n".join(f"{mark:<5}  {sentence}" for mark, sentences in marked for sentence in sentences)


def verify(
    library: Library | str | os.PathLike[str],
    model: nn.Module | PreparedModel | None = None,
    dataset: object = None,
    *,
    composite: Composite | None = None,
    concept: ConceptKind = _CHANNELS,
    targets: TargetRule | None = None,
    blocks: int = 2,
) -> Verification:
    """Look for everything that can be wrong with a library.

    Always: that it can be read, that every file is what was written (checksums), that every number is within its
    range, every picture can be decoded, and patches belong to the references. With a model: that it is the one that was
    mined. With model and data set: that both are, and some blocks of samples are computed again. In these, every
    sample that the library has as a reference must have its score and class again, and every sample that scores more
    than a concept's last reference must be one. With as many blocks as the data set has, lists and class statistics are
    proven.

    Checksums do not tell who made a library: whoever can change its files can change them, too.

    Parameters
    ----------
    library
        A library, or its folder.
    model, dataset
        Those that were mined, as given to `crp.mine`.
    composite, concept
        As given to `crp.mine`, if they were not the defaults.
    targets
        The rule that was given to `crp.mine`, if it was a function: a library keeps no more than its name.
    blocks
        How many blocks of samples to compute again, spread evenly over the data set.

    Returns
    -------
    Verification
        `sound`, and sentences. What is wrong is never raised.

    Raises
    ------
    InputError
        If `dataset` is given without `model`, or `blocks` is below 1.
    """
    if dataset is not None and model is None:
        raise InputError("A data set alone proves little: give the model that was mined, too.")
    if blocks < 1:
        raise InputError(f"blocks is {blocks}; at least 1 is needed.")
    found = Verification(library.path if isinstance(library, Library) else Path(library))
    with _told(found):
        wrong, foreign = wrong_files(found.path) if found.path.is_dir() else ([], [])
        found.wrong += wrong
        found.notes += foreign
        if found.path.is_dir() and not wrong:
            found.held.append("Every file is what was written: its checksum is as noted.")
    with _told(found):
        opened = open_library(found.path)
        _look_at_tables(found, opened)
        if model is None:
            found.notes.append("Whether scores are true was not looked at: give model and data to compute some again.")
        else:
            check_model(opened, model.model if isinstance(model, PreparedModel) else model)
            found.held.append("The model has the weights that were mined.")
        if dataset is not None:
            _compute_again(found, opened, ready_model(model, composite), dataset, concept, targets, blocks)
    return found


@contextmanager
def _told(found: Verification) -> Iterator[None]:
    """What stops a look at something is told, and is what is wrong."""
    try:
        yield
    except CrpError as error:
        found.wrong.append(str(error))


def _look_at_tables(found: Verification, library: Library) -> None:
    references = patches = 0
    for layer in library.layers:
        lists = {}
        with _told(found):
            explained = np.flatnonzero(library.statistics(layer).count)
            for mode in MODES if library.manifest["settings"]["class_references"] else ():
                for target in explained.tolist():
                    library.class_references(layer, target, mode)
        if library.manifest["settings"]["vectors"]:
            with _told(found):
                _look_at_vectors(library, layer)
        for mode in MODES:
            with _told(found):
                lists[mode] = library.references(layer, mode)
                references += int((lists[mode].sample >= 0).sum())
        with _told(found):
            stored = library.stored_patches(layer)
            for mode in lists:
                _compare_patches(library, layer, mode, lists[mode], stored)
            for modes in stored.values():
                for kept in modes.values():
                    patches += len(kept)
                    for patch in kept:
                        decoded(library.file(layer, "patches"), patch, library.shape(layer)[1:], library.class_names)
    if not found.wrong:
        found.held.append(
            f"Every number is within its range: {references} references and {patches} patches of "
            f"{len(library.layers)} layers."
        )


def _look_at_vectors(library: Library, layer: str) -> None:
    vectors = library.vectors(layer)
    for matrix in (vectors.relevance, vectors.activation):
        for _ in matrix.chunks():  # refuses what is no finite number
            pass


def _compare_patches(library: Library, layer: str, mode: str, lists: References, stored: LayerPatches) -> None:
    count = library.manifest["settings"]["patches"]
    for concept, modes in stored.items():
        wanted = [
            (int(lists.sample[concept, rank]), int(lists.target[concept, rank]), int(lists.position[concept, rank]))
            for rank in range(min(count, lists.sample.shape[1]))
            if lists.sample[concept, rank] >= 0
        ]
        given = [(patch.sample, patch.target, patch.position) for patch in modes.get(mode, ())]
        if given != wanted:
            raise LibraryError(
                f"The patches of concept {concept} of layer '{layer}' by {mode} are of the samples "
                f"{[sample for sample, *_ in given]}, and its references {[sample for sample, *_ in wanted]}: "
                "samples, classes or positions differ."
            )


def _compute_again(
    found: Verification,
    library: Library,
    model: PreparedModel,
    dataset: object,
    concept: ConceptKind,
    targets: TargetRule | None,
    count: int,
) -> None:
    settings = library.manifest["settings"]
    precision, rule = settings["precision"], targets or settings["targets"]
    dtype = torch.bfloat16 if precision == "bfloat16" else None
    if targets is None and not named_rule(rule):
        found.notes.append(
            f"No score was computed again: classes were explained by the rule {rule!r}, of which the library keeps no "
            "more than the name; give it as targets=."
        )
        return
    check_concept_kind(library, concept)
    with surroundings(settings["threads"]):
        skip_bad = bool(library.manifest.get("skipped"))
        data = data_subject(dataset, labelled=rule == "label", skip_bad=skip_bad)
        check_data(library, data)
        explained = {"targets": rule, "classes": library.manifest["classes"]}
        found.held.append(f"The data set is the one that was mined ({len(data.reader)} samples).")
        model.check(library)
        subject = model_subject(model, None, data.reader, library.layers, None, dtype, **explained)
        check_shapes(library, subject.shapes, concept)
        found.held.append("The rules of relevance are those that were mined with.")
        size = min(settings["block_size"] or _BLOCK_SIZE, len(data.reader))
        total = -(-len(data.reader) // size)
        chosen = sorted({place * (total - 1) // max(count - 1, 1) for place in range(count)})
        tolerance = TOLERANCES.get(precision, TOLERANCES["float32"])
        scores = {name: Score(settings[name]) for name in ("relevance_score", "activation_score")}
        sizes = {layer: library.limits(layer).concepts for layer in library.layers}
        seen, worst, whole = 0, 0.0, Tally(sizes, subject.classes, 1, settings["top"], 0)
        numbers = [(number, number + 1) for number in chosen]
        for block in blocks(data.reader, size, 0, data.digests, numbers=numbers, skip_bad=skip_bad):
            tally = Tally(sizes, subject.classes, size, settings["top"], 0)  # keeps all
            Surveyor(subject.survey, tally, concept=concept, targets=rule, **scores).add(block)
            samples = block.samples.numpy()[block.counted]
            for (layer, mode), again in tally.result().references.items():
                checked, off = _compared(library, layer, mode, again, samples, tolerance)
                seen, worst = seen + checked, max(worst, off)
            whole.merge(tally.arrays())
        found.held.append(
            f"{seen} references in {len(chosen)} of {total} blocks of samples were computed again: their scores "
            f"differ by at most {worst:.1e} of the largest in the layer (allowed with {precision}: {tolerance:g}), and "
            "no sample there is missing among the references."
        )
        if len(chosen) == total:
            for layer, sums in whole.sums.items():
                _compare_statistics(layer, library.statistics(layer), sums.result(), tolerance)
            found.held.append("Class statistics of all samples were computed again: they are those of the library.")


def _compared(
    library: Library, layer: str, mode: str, again: References, samples: np.ndarray, tolerance: float
) -> tuple[int, float]:
    """Compare the references that lie in a block with the best of the block.

    Returns
    -------
    tuple of (int, float)
        How many were compared, and the largest difference, relative to the largest score of the layer.

    Raises
    ------
    LibraryError
        If a score, a class or the choice of samples differs.
    """
    stored = library.references(layer, mode)
    filled = stored.score[np.isfinite(stored.score)]
    unit = float(np.abs(filled).max()) if len(filled) else 0.0
    where = f"of layer '{layer}' by {mode}"
    checked, worst = 0, 0.0
    for concept in range(len(stored.sample)):
        mined = _by_sample(stored, concept, samples)
        now = _by_sample(again, concept, samples)
        sign = -1 if mode == "negative" else 1  # the most negative come first there
        last = sign * float(stored.score[concept, -1])  # -inf where places are left
        for key, score in mined.items():
            sample, target = key
            # what is hardly negative may be hardly positive when computed elsewhere
            if key not in now and (mode != "negative" or -score > tolerance * unit):
                raise LibraryError(
                    f"Sample {sample} is a reference of concept {concept} {where}, explained for class {target}; "
                    "computed again, another class is explained."
                )
            off = abs(score - now.get(key, 0.0)) / unit if unit else 0.0
            if off > tolerance:
                raise LibraryError(
                    f"Sample {sample} scores {score:g} for concept {concept} {where}; computed again, {now[key]:g}."
                )
            checked, worst = checked + 1, max(worst, off)
        for (sample, _), score in now.items():
            if sign * score > last + tolerance * unit and sample not in {sample for sample, _ in mined}:
                raise LibraryError(
                    f"Sample {sample} scores {score:g} for concept {concept} {where}, more than its last reference "
                    f"({sign * last:g}), and is not among the references."
                )
    return checked, worst


def _compare_statistics(layer: str, stored: ClassStatistics, again: ClassStatistics, tolerance: float) -> None:
    for name in ("count", "share", "activation"):
        mined, now = getattr(stored, name), getattr(again, name)
        off = np.abs(mined - now)
        if (off > tolerance * np.abs(mined).max()).any():
            target = int(off.reshape(len(off), -1).max(1).argmax())
            raise LibraryError(
                f"The {name} of class {target} in layer '{layer}' is not what computing all samples again gives: it is "
                f"off by {off.max():g}."
            )


def _by_sample(found: References, concept: int, samples: np.ndarray) -> dict[tuple[int, int], float]:
    """Scores of a concept's references among some samples, by sample and class."""
    row = found.sample[concept]
    within = np.flatnonzero(np.isin(row, samples))
    return {
        (int(row[place]), int(found.target[concept, place])): float(found.score[concept, place]) for place in within
    }
