"""`verify`: checks that a library is complete, unchanged and correct."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from crp.arguments import whole_number
from crp.concepts import ChannelConcept, Kinds
from crp.errors import CrpError, InputError, LibraryError
from crp.files import user_path
from crp.library.checksums import wrong_files
from crp.library.known_outputs import why_none
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
from crp.mining.targets import TargetRule, named_rule, rule_name
from crp.models import PreparedModel, check_concept_kind, check_layouts, ready_model
from crp.same_model import check_model
from crp.values import ConceptMeans

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

_CHANNELS = ChannelConcept()

# For each precision of the pass: the allowed difference of a score that is computed again, relative to the largest of
# its kind in the layer. On the same machine the difference is 0. Other machines and versions sum in another order, and
# GPUs round float32 to 10 bits in convolutions (TF32).
TOLERANCES = {"float64": 1e-9, "float32": 1e-3, "tf32": 1e-2, "bfloat16": 5e-2}

# The batch size if a library does not say it (because it was imported from another system).
_BLOCK_SIZE = 32


@dataclass
class Verification:
    """The result of checking a library, in sentences.

    Attributes
    ----------
    path
        Folder of the library.
    held
        Checks that passed.
    wrong
        Problems.
    notes
        Checks that were not made, and files that do not belong to the library.
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
        """Return all sentences, one per line, with a mark."""
        marked = (("ok", self.held), ("note", self.notes), ("WRONG", self.wrong))
        return "\n".join(f"{mark:<5}  {sentence}" for mark, sentences in marked for sentence in sentences)


def verify(
    library: Library | str | os.PathLike[str],
    model: nn.Module | PreparedModel | None = None,
    dataset: object = None,
    *,
    composite: Composite | str | None = None,
    concept: Kinds = _CHANNELS,
    targets: TargetRule | None = None,
    blocks: int = 2,
) -> Verification:
    """Check a library.

    These checks are always made: the library can be read, every file is unchanged (checksums), every number is in its
    valid range, every picture can be decoded, and patches belong to the references. With a model: it is the one that
    was mined. With model and data set: both are those that were mined, and some blocks of samples are computed again.
    There, every sample that is a reference must get its score and class again, and every sample with a higher score
    than a concept's last reference must be a reference. If all blocks are computed again, the references and class
    statistics are proven correct.

    Checksums do not show who made a library: anybody who can change its files can also change them.

    Parameters
    ----------
    library
        A library, or its folder.
    model, dataset
        Those that were mined, as given to `crp.mine`. The model may be prepared by `crp.prepared`.
    composite, concept
        As given to `crp.mine`, if they were not the defaults.
    targets
        The target rule that was given to `crp.mine`, if it was a function or a start. A library stores only its name.
    blocks
        Number of blocks of samples to compute again, evenly spaced in the data set.

    Returns
    -------
    Verification
        Problems of the library are reported here, not raised.

    Raises
    ------
    InputError
        If `dataset` is given without `model`, or `blocks` is below 1.
    """
    if dataset is not None and model is None:
        raise InputError("A data set alone proves little: also give the model that was mined.")
    blocks = whole_number("blocks", blocks, 1)
    found = Verification(library.path if isinstance(library, Library) else user_path(library))
    with _reported(found):
        wrong, foreign = wrong_files(found.path) if found.path.is_dir() else ([], [])
        found.wrong += wrong
        found.notes += foreign
        if found.path.is_dir() and not wrong:
            found.held.append("Every file is unchanged: its checksum is the one listed.")
    with _reported(found):
        opened = open_library(found.path)
        _check_tables(found, opened)
        if model is None:
            found.notes.append("Scores were not checked: give model and data to compute some of them again.")
        else:
            _check_model(found, opened, model.model if isinstance(model, PreparedModel) else model)
        if dataset is not None:
            ready = ready_model(model, composite, library=opened)
            _compute_again(found, opened, ready, dataset, concept, targets, blocks)
    return found


@contextmanager
def _reported(found: Verification) -> Iterator[None]:
    """Report an error of this package as a problem of the library."""
    try:
        yield
    except CrpError as error:
        found.wrong.append(str(error))


def _check_tables(found: Verification, library: Library) -> None:
    references = patches = made = missing = 0
    for layer in library.layers:
        lists = {}
        with _reported(found):
            if library.mean_sizes.get(layer):
                library.means(layer)
            explained = np.flatnonzero(library.statistics(layer).count)
            for mode in MODES if library.manifest["settings"]["class_references"] else ():
                for target in explained.tolist():
                    library.class_references(layer, target, mode)
        if library.manifest["settings"]["vectors"]:
            with _reported(found):
                _check_vectors(library, layer)
        for mode in MODES:
            with _reported(found):
                lists[mode] = library.references(layer, mode)
                references += int((lists[mode].sample >= 0).sum())
        with _reported(found):
            stored, whole = library.stored_patches(layer), set(library.with_patches(layer))
            files = library.patch_files(layer)
            made += int(files.made().sum())
            missing += int((files.expected - files.made()).sum())
            for mode in lists:
                _compare_patches(library, layer, mode, lists[mode], stored, whole)
            for modes in stored.values():
                for kept in modes.values():
                    patches += len(kept)
                    for patch in kept:
                        decoded(library.file(layer, "patches"), patch, library.space(layer), library.class_names)
    if not found.wrong:
        found.held.append(
            f"Every number is in its valid range: {references} references and {patches} patches of "
            f"{len(library.layers)} layer{'s' if len(library.layers) > 1 else ''}."
        )
    if made > patches and not found.wrong:
        found.notes.append(
            f"{made - patches} patches were not checked: better ones of the same concept have not been made yet."
        )
    with _reported(found):
        _check_names(found, library)
    if missing:
        found.notes.append(
            f"{missing} patches have not been made yet: they are made when they are needed, or all at once by "
            f"`crp patches {shlex.quote(str(library.path))}`."
        )


def _check_model(found: Verification, library: Library, model: nn.Module) -> None:
    difference = check_model(library, model)
    found.held.append("The model has the weights that were mined.")
    if difference is None:
        found.notes.append(f"What the model computes was not compared: {why_none(library.manifest)}.")
    else:
        found.held.append(
            f"The model computes what was mined: for a test pattern, outputs differ by at most {difference:.1e} of the "
            "largest."
        )


def _check_names(found: Verification, library: Library) -> None:
    given, refused = library.given_names(), library.refused_names()
    if given:
        found.held.append(f"{len(given)} names that people gave belong to the concepts of the library.")
    found.notes += [f"The name of {address} is not used: {reason}." for address, reason in refused.items()]


def _check_vectors(library: Library, layer: str) -> None:
    vectors = library.vectors(layer)
    for matrix in (vectors.relevance, vectors.activation):
        for _ in matrix.chunks():  # raises an error for values that are not finite
            pass


def _compare_patches(
    library: Library, layer: str, mode: str, lists: References, stored: LayerPatches, whole: set[int]
) -> None:
    """Compare patches with the references; of concepts that are not `whole`, some may be missing at the end."""
    count = library.manifest["settings"]["patches"]
    for concept, modes in stored.items():
        wanted = [
            (int(lists.sample[concept, rank]), int(lists.target[concept, rank]), int(lists.position[concept, rank]))
            for rank in range(min(count, lists.sample.shape[1]))
            if lists.sample[concept, rank] >= 0
        ]
        given = [(patch.sample, patch.target, patch.position) for patch in modes.get(mode, ())]
        if given != (wanted if concept in whole else wanted[: len(given)]):
            raise LibraryError(
                f"The patches of concept {concept} of layer '{layer}' by {mode} show the samples "
                f"{[sample for sample, *_ in given]}, but its references are {[sample for sample, *_ in wanted]}: "
                "samples, classes or positions differ."
            )


def _compute_again(
    found: Verification,
    library: Library,
    model: PreparedModel,
    dataset: object,
    concept: Kinds,
    targets: TargetRule | None,
    count: int,
) -> None:
    settings = library.manifest["settings"]
    precision, rule = settings["precision"], targets or settings["targets"]
    if settings["start"] == "start" and targets is not None and rule_name(targets) != settings["targets"]:
        raise LibraryError(f"Relevance was started by {settings['targets']!r}, and targets= is {rule_name(targets)!r}.")
    dtype = torch.bfloat16 if precision == "bfloat16" else None
    if targets is None and not named_rule(rule):
        found.notes.append(
            f"No score was computed again: the library stores only the name of the target rule {rule!r}; give the "
            "function or start as targets=."
        )
        return
    check_concept_kind(library, concept)
    with surroundings(settings["threads"]):
        skip_bad = bool(library.manifest.get("skipped"))
        data = data_subject(dataset, labelled=rule == "label", skip_bad=skip_bad, preprocessing=library.preprocessing)
        check_data(library, data)
        explained = {"targets": rule, "classes": library.manifest["classes"], "layouts": library.layouts}
        found.held.append(f"The data set is the one that was mined ({len(data.reader)} samples).")
        model.check(library)
        subject = model_subject(model, None, data.reader, library.layers, None, dtype, **explained)
        check_layouts(library, subject.layouts, concept)
        found.held.append("The rules are those that were mined with.")
        size = min(settings["block_size"] or _BLOCK_SIZE, len(data.reader))
        total = -(-len(data.reader) // size)
        chosen = sorted({place * (total - 1) // max(count - 1, 1) for place in range(count)})
        tolerance = TOLERANCES.get(precision, TOLERANCES["float32"])
        scores = {name: Score(settings[name]) for name in ("relevance_score", "activation_score")}
        sizes = {layer: library.limits(layer).concepts for layer in library.layers}
        means = library.mean_sizes
        seen, worst, whole = 0, 0.0, Tally(sizes, subject.classes, 1, settings["top"], 0, means)
        numbers = [(number, number + 1) for number in chosen]
        for block in blocks(data.reader, size, 0, data.digests, numbers=numbers, skip_bad=skip_bad):
            tally = Tally(sizes, subject.classes, size, settings["top"], 0, means)  # keeps all samples
            how = {"concept": concept, "layouts": subject.layouts, "targets": rule, **scores}
            Surveyor(subject.survey, tally, **how).add(block)
            samples = block.samples.numpy()[block.counted]
            for (layer, mode), again in tally.result().references.items():
                checked, off = _compared(library, layer, mode, again, samples, tolerance)
                seen, worst = seen + checked, max(worst, off)
            whole.merge(tally.arrays())
        found.held.append(
            f"{seen} references in {len(chosen)} of {total} blocks of samples were computed again: their scores "
            f"differ by at most {worst:.1e} of the largest in the layer (allowed with {precision}: {tolerance:g}), and "
            "no sample there is missing from the references."
        )
        if len(chosen) == total:
            for layer, sums in whole.sums.items():
                _compare_statistics(layer, library.statistics(layer), sums.result(), tolerance)
            for layer, sums in whole.means.items():
                _compare_means(layer, library.means(layer), sums.result(), tolerance)
            what = "Class statistics and means" if whole.means else "Class statistics"
            found.held.append(f"{what} of all samples were computed again and are equal.")


def _compared(
    library: Library, layer: str, mode: str, again: References, samples: np.ndarray, tolerance: float
) -> tuple[int, float]:
    """Compare the references in a block with the best samples of the block.

    Returns
    -------
    tuple of (int, float)
        Number of references compared, and the largest difference relative to the largest score of the layer.

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
        sign = -1 if mode == "negative" else 1  # there, the most negative score is the best
        last = sign * float(stored.score[concept, -1])  # -inf if the list is not full
        for key, score in mined.items():
            sample, target = key
            # a score just below 0 may be just above 0 on another machine
            if key not in now and (mode != "negative" or -score > tolerance * unit):
                raise LibraryError(
                    f"Sample {sample} is a reference of concept {concept} {where}, explained for class {target}, but "
                    "another class is explained when it is computed again."
                )
            off = abs(score - now.get(key, 0.0)) / unit if unit else 0.0
            if off > tolerance:
                raise LibraryError(
                    f"Sample {sample} scores {score:g} for concept {concept} {where}, but {now[key]:g} when computed "
                    "again."
                )
            checked, worst = checked + 1, max(worst, off)
        for (sample, _), score in now.items():
            if sign * score > last + tolerance * unit and sample not in {sample for sample, _ in mined}:
                raise LibraryError(
                    f"Sample {sample} scores {score:g} for concept {concept} {where}, more than its last reference "
                    f"({sign * last:g}), but is not a reference."
                )
    return checked, worst


def _compare_statistics(layer: str, stored: ClassStatistics, again: ClassStatistics, tolerance: float) -> None:
    for name in ("count", "share", "activation"):
        mined, now = getattr(stored, name), getattr(again, name)
        off = np.abs(mined - now)
        if (off > tolerance * np.abs(mined).max()).any():
            target = int(off.reshape(len(off), -1).max(1).argmax())
            raise LibraryError(
                f"The {name} of class {target} in layer '{layer}' differs by {off.max():g} from what all samples give "
                "when computed again."
            )


def _compare_means(layer: str, stored: ConceptMeans, again: ConceptMeans, tolerance: float) -> None:
    off = np.abs(stored.numbers - again.numbers).max()
    if stored.samples != again.samples or off > tolerance * np.abs(stored.numbers).max():
        raise LibraryError(
            f"The means of layer '{layer}', of {stored.samples} samples, differ by {off:g} from those of the "
            f"{again.samples} samples that were computed again."
        )


def _by_sample(found: References, concept: int, samples: np.ndarray) -> dict[tuple[int, int], float]:
    """Return the scores of those references of a concept that are among some samples, by sample and class."""
    row = found.sample[concept]
    within = np.flatnonzero(np.isin(row, samples))
    return {
        (int(row[place]), int(found.target[concept, place])): float(found.score[concept, place]) for place in within
    }
