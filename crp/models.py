"""A model prepared for explanation, and the checks that a model belongs to a library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from crp.arguments import uncompiled_name, way_to_probabilities
from crp.attribution import Replica, prepare
from crp.attribution.composites import BY_PURPOSE, GAMMA, PLUS, composite_for
from crp.attribution.isolation import isolated_pass
from crp.attribution.wrappers import check_module, unwrapped
from crp.concepts import AnyKind, ChannelConcept, ConceptKind, Kinds, concept_count, kind_at
from crp.errors import InputError, LibraryError, ModelError, shortened
from crp.layout import Layout
from crp.library.fingerprints import options_in, value_fingerprint, weights_fingerprint
from crp.library.store import check_library
from crp.same_model import Computed, check_same_model

if TYPE_CHECKING:
    # zennit is loaded by crp.attribution alone, which prepares torchvision for it
    from zennit.core import Composite

    from crp.library import Library


@dataclass(frozen=True)
class PreparedModel:
    """A model and a copy of it with rules. Several threads may explain with one at the same time.

    Attributes
    ----------
    model
        The caller's model, without `DataParallel` or `torch.compile` around it.
    composite
        The composite whose rules are on the copy.
    replica
        The copy. It shares the weights in memory; once they are changed, it is refused (torch does not count changes
        through `tensor.data`).
    weights
        Fingerprint of the weights.
    rules
        Description of the composite as a library stores it: name, reason, rules and canonizers.
    computed
        Outputs of the model for test patterns of libraries, so that each is computed once.
    """

    model: nn.Module
    composite: Composite
    replica: Replica
    weights: str
    rules: dict[str, Any]
    computed: Computed = field(default_factory=dict, repr=False, compare=False)

    def check(self, library: Library, concept: Kinds | None = None) -> None:
        """Refuse a library that was mined with another model, output, composite or (if given) kinds of concept.

        Another model is one with other weights, or with the same weights and other outputs for a test pattern.

        Raises
        ------
        LibraryError
        ModelError
            If weights were changed after the model was prepared.
        """
        self.replica.check_weights()
        check_same_model(library, self.model, self.weights, self.computed)
        if concept is not None:
            check_concept_kind(library, concept)
        check_composite(library, self.rules)


def prepared(
    model: nn.Module,
    composite: Composite | str | None = None,
    data: Tensor | None = None,
    *,
    library: Library | None = None,
    probabilities: str | None = None,
) -> PreparedModel:
    """Prepare a model for many explanations: its weights are read and its rules attached only once.

    Parameters
    ----------
    model
        The model that was mined. It is not changed.
    composite
        The composite used for mining, if it was not the default; or the name of one of the sets of rules that
        `crp.composite_for` makes, such as `"epsilon-plus-flat"`.
    data
        An example `[N, ...]` of the model's input, for a model that runs its layers in another order than it registers
        them (`crp.composite_for`).
    library
        The library to explain with: without a composite, the set of rules is the one that it holds, and without data,
        the example is an input of the shape of its samples. The model must then have the weights that were mined, and
        give the outputs that the library holds for a test pattern.
    probabilities
        How logits become probabilities of classes: `"softmax"`, or `"sigmoid"` where a sample may have several classes.
        By default, a softmax or sigmoid that ends the model says it, then the library, and otherwise it is a softmax.
        Pages say which was used.

    Raises
    ------
    InputError
        If `probabilities` is something else.
    ModelError
        If weights are NaN or infinite, or the model cannot be explained.
    LibraryError
        If the library was mined with other weights, or the model has the weights and computes something else.

    Examples
    --------
    >>> ready = crp.prepared(model)                                                # doctest: +SKIP
    >>> atlases = [crp.atlas(ready, image, library) for image in images]          # doctest: +SKIP
    """
    way_to_probabilities(probabilities)
    check_module(model)
    model = unwrapped(model)
    check_weights_finite(model)
    weights, computed = weights_fingerprint(model), {}
    if library is not None:
        check_library(library)
        composite = rules_in(library.manifest) if composite is None else composite
        if data is None:
            check_same_model(library, model, weights, computed)
            data = _example(model, library)
    composite, rules = described_rules(model, composite, data)
    replica = prepare(model, composite)
    replica.probabilities = probabilities
    return PreparedModel(model, composite, replica, weights, rules, computed)


def ready_model(
    model: nn.Module | PreparedModel,
    composite: Composite | str | None = None,
    data: Tensor | None = None,
    library: Library | None = None,
) -> PreparedModel:
    """Prepare a model, unless it is prepared already; the parameters are those of `prepared`.

    Raises
    ------
    InputError
        If `model` is neither, or is prepared and a composite is given, too.
    ModelError
        As `prepared`.
    """
    if isinstance(model, PreparedModel):
        if composite is not None:
            raise InputError("A prepared model has its composite already: give it to crp.prepared.")
        return model
    if not isinstance(model, nn.Module):
        raise InputError(f"A model is a torch.nn.Module or made by crp.prepared, given {type(model).__name__}.")
    return prepared(model, composite, data, library=library)


def check_weights_finite(model: nn.Module) -> None:
    """Refuse weights that are NaN or infinite: every explanation made with them would be NaN.

    Raises
    ------
    ModelError
        Names the first such parameter or buffer.
    """
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and value.is_floating_point() and not (finite := value.isfinite()).all():
            count = int((~finite).sum())
            raise ModelError(
                f"The model's '{name}' holds {count} NaN or infinite values of {value.numel()}; it cannot be explained."
            )


def _example(model: nn.Module, library: Library) -> Tensor:
    """Return a model input `[1, c, *S]` of the shape of a library's samples, all 0."""
    weight = next((value for value in model.parameters() if value.is_floating_point()), torch.zeros(()))
    shape = library.manifest["data"]["shape"]
    try:
        return weight.new_zeros(1, *shape)
    except RuntimeError as error:
        raise LibraryError(f"The samples of '{library.path}' have the shape {shape}, too large for memory.") from error


@isolated_pass()
def described_rules(
    model: nn.Module, composite: Composite | str | None, data: Tensor | None = None
) -> tuple[Composite, dict[str, Any]]:
    """Return a composite (by default the one that fits the model) and its description as a library stores it."""
    if composite is None or isinstance(composite, str):
        fitting = composite_for(model, data, rules=composite or GAMMA)
        composite, name, reason = fitting.composite, fitting.name, fitting.reason
    else:
        name, reason = type(composite).__name__, "given by the caller"
    rules, options = _rules_and_options(model, composite)
    canonizers = [type(canonizer).__name__ for canonizer in composite.canonizers]
    description = {"name": name, "reason": reason, "rules": rules, "canonizers": canonizers}
    ranking = getattr(composite, "ranking", None)
    if ranking is not None:
        description["ranking"], own = _rules_and_options(model, ranking)
        options |= {f"{rule} for ranking": found for rule, found in own.items()}
    return composite, {**description, "options": options}


def _rules_and_options(
    model: nn.Module, composite: Composite
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """List the modules and the options of each rule of a composite."""
    rules, options = defaultdict(list), defaultdict(set)
    context: dict = {}
    for module_name, module in model.named_modules():
        hook = composite.module_map(context, module_name, module)
        if hook is not None:
            rules[type(hook).__name__].append(uncompiled_name(module_name))
            options[type(hook).__name__].add(" ".join(options_in(hook)))
    return dict(rules), {rule: sorted(found) for rule, found in options.items()}


def rules_in(manifest: Mapping[str, Any]) -> str:
    """Name the set of rules that a library was mined with, unless its composite was given by the caller."""
    composite = manifest["composite"]
    if "ranking" not in composite:
        return PLUS
    return GAMMA if "maps: epsilon-gamma-flat" in composite["name"] else BY_PURPOSE


def check_same(stored: Mapping[str, Any], given: Mapping[str, Any], keys: Sequence[str], fact: str) -> None:
    """Refuse a model, data set or composite whose description differs from the library's.

    Raises
    ------
    LibraryError
        Names the first key that differs, with both values (of mappings only the entries that differ).
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


def described_kind(concept: AnyKind) -> dict[str, Any]:
    """Describe a kind of concept as a library stores it: its class, and a fingerprint of what it holds.

    Channels hold nothing. Two banks of directions are of one class, and differ in their fingerprints.
    """
    kind = type(concept)
    if kind is ChannelConcept:
        return {"kind": kind.__name__}
    found = {"kind": kind.__name__, "fingerprint": value_fingerprint(concept)}
    return found if isinstance(concept, ConceptKind) else {**found, "methods": True}


def check_concept_kind(library: Library, concept: Kinds) -> None:
    """Refuse other kinds of concept than those that were mined.

    Parameters
    ----------
    library
        The library.
    concept
        The kind of all its layers, or one for each; layers for which none is given are not checked.

    Raises
    ------
    LibraryError
    """
    layers = [layer for layer in library.layers if not isinstance(concept, Mapping) or layer in concept]
    kinds = {layer: kind_at(layer, concept) for layer in layers}
    described = {id(kind): described_kind(kind) for kind in kinds.values()}
    for layer, kind in kinds.items():
        held, given = library.kind(layer), described[id(kind)]
        where = f"The library '{library.path}' holds" + (f", at layer '{layer}'," if len(library.layers) > 1 else "")
        if held["kind"] != given["kind"]:
            raise LibraryError(f"{where} concepts of the kind {held['kind']}, given {given['kind']}.")
        mined, ours = (str(found.get("fingerprint"))[:12] for found in (held, given))
        if mined != ours:
            raise LibraryError(
                f"{where} other concepts of the kind {held['kind']} (fingerprint {mined}, given {ours}): give those "
                "that were mined."
            )


def check_composite(library: Library, given: Mapping[str, Any]) -> None:
    """Refuse a composite, described by `described_rules`, that is not the library's.

    Options of rules are read from zennit's objects, so they are compared only if zennit has the version that mined.

    Raises
    ------
    LibraryError
    """
    mined = library.manifest["composite"]
    if "ranking" in given and "ranking" not in mined:
        raise LibraryError(
            f"The library '{library.path}' holds one set of rules, {shortened(mined['name'])}, and the model has rules "
            f"by purpose, '{given['name']}': prepare it with crp.prepared(model, library=library), or give "
            f"composite='{PLUS}' (or the composite that was given to crp.mine)."
        )
    own, others = rules_in(library.manifest), rules_in({"composite": given})
    if "ranking" in given and own != others:
        ours, theirs = (f"'{each['name'].split('; maps: ')[-1]}'" for each in (mined, given))
        raise LibraryError(
            f"The library '{library.path}' draws heatmaps by {ours}, and the model has {theirs}: prepare it with "
            f"crp.prepared(model, library=library), or give composite='{own}'."
        )
    if "ranking" in mined and mined["name"] == given["name"].replace("first-order", "epsilon") != given["name"]:
        raise LibraryError(
            f"The library '{library.path}' holds relevance of concepts by epsilon, and this model's is a first-order "
            "effect, because it has norms, attention, gates or smooth activations: either it is not the network that "
            "was mined, although the weights are, or the library is from an earlier version. Mine it again."
        )
    keys = ["name", "rules", "canonizers", *(["ranking"] if "ranking" in given else [])]
    if mined["name"] == given["name"].replace("epsilon;", "first-order;", 1):
        # a detector whose boxes are held runs fewer functions than the one that was mined
        keys.remove("name")
    if "options" in mined and library.manifest["versions"].get("zennit") == version("zennit"):
        keys.append("options")
    check_same(mined, given, keys, "This is not the composite of the library")


def check_start(library: Library) -> None:
    """Refuse a library in which a class alone does not determine which relevance starts.

    Raises
    ------
    LibraryError
    """
    if library.manifest["settings"]["start"] != "logit":
        raise LibraryError(
            f"In the library '{library.path}' the {library.manifest['settings']['start']} "
            f"{shortened(library.manifest['settings']['targets'])} starts relevance; this needs a library whose "
            "relevance starts as the output of a class."
        )


def check_layouts(library: Library, layouts: Mapping[str, Layout], concept: Kinds) -> None:
    """Refuse layers whose outputs have another shape or number of concepts than in the library.

    Raises
    ------
    LibraryError
    """
    for layer, layout in layouts.items():
        stored = {"shape": list(library.shape(layer)), "concepts": library.limits(layer).concepts}
        given = {"shape": list(layout.shape), "concepts": concept_count(kind_at(layer, concept), layout)}
        check_same(stored, given, ["shape", "concepts"], f"This is not the layer '{layer}' of the library")
