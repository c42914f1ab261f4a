"""A model made ready once, to be explained many times; and whether a model is the one of a library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from torch import nn

from crp.attribution import Replica, prepare
from crp.attribution.composites import composite_for
from crp.concepts import ConceptKind
from crp.errors import LibraryError, shortened
from crp.library.fingerprints import options_in, weights_fingerprint

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
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
        """Refuse a library that was mined with other weights, another part of the output or another composite.

        Raises
        ------
        LibraryError
        """
        library.check_weights(self.weights)
        library.check_output(self.replica.model)
        check_composite(library, self.rules)


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


def described_rules(model: nn.Module, composite: Composite | None) -> tuple[Composite, dict[str, Any]]:
    """A composite and what a library says of it; without one, the composite that fits the model."""
    if composite is None:
        fitting = composite_for(model)
        composite, name, reason = fitting.composite, fitting.name, fitting.reason
    else:
        name, reason = type(composite).__name__, "given by the caller"
    rules, options = defaultdict(list), defaultdict(set)
    context: dict = {}
    for module_name, module in model.named_modules():
        hook = composite.module_map(context, module_name, module)
        if hook is not None:
            rules[type(hook).__name__].append(module_name)
            options[type(hook).__name__].add(" ".join(options_in(hook)))
    canonizers = [type(canonizer).__name__ for canonizer in composite.canonizers]
    description = {"name": name, "reason": reason, "rules": dict(rules), "canonizers": canonizers}
    return composite, {**description, "options": {rule: sorted(found) for rule, found in options.items()}}


def check_same(stored: Mapping[str, Any], given: Mapping[str, Any], keys: Sequence[str], fact: str) -> None:
    """Refuse a subject whose description differs from the library's.

    Raises
    ------
    LibraryError
        Names the first key that differs, with both values (of mappings, what differs in them).
    """
    for key in keys:
        ours, theirs = given[key], stored.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            differing = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
            ours, theirs = ({name: values.get(name) for name in differing} for values in (ours, theirs))
        if ours != theirs:
            raise LibraryError(
                f"{fact}: its {key} is {shortened(ours, 200)}, and the library has {shortened(theirs, 200)}."
            )


def check_composite(library: Library, given: Mapping[str, Any]) -> None:
    """Refuse a composite, as `described_rules` describes it, that is another one than the library's.

    Options of rules are read from zennit's objects, so they are compared where zennit is the version that mined.

    Raises
    ------
    LibraryError
    """
    mined = library.manifest["composite"]
    keys = ["name", "rules", "canonizers"]
    if "options" in mined and library.manifest["versions"].get("zennit") == version("zennit"):
        keys.append("options")
    check_same(mined, given, keys, "This is not the composite of the library")


def check_start(library: Library) -> None:
    """Refuse a library whose relevance a function started: a class alone does not say what that was.

    Raises
    ------
    LibraryError
    """
    if library.manifest["settings"]["start"] != "logit":
        raise LibraryError(
            f"The library '{library.path}' starts relevance as a function says, "
            f"{shortened(library.manifest['settings']['targets'])}, and not as the output of a class: this is not made "
            "for it."
        )


def check_shapes(library: Library, shapes: Mapping[str, tuple[int, ...]], concept: ConceptKind) -> None:
    """Refuse layers whose outputs have another shape, or another number of concepts, than the library says.

    Raises
    ------
    LibraryError
    """
    for layer, shape in shapes.items():
        stored = {"shape": list(library.shape(layer)), "concepts": library.limits(layer).concepts}
        given = {"shape": list(shape), "concepts": concept.size(shape)}
        check_same(stored, given, ["shape", "concepts"], f"This is not the layer '{layer}' of the library")
