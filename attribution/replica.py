"""A private copy of the caller's modules, on which rules are put.

zennit registers hooks and canonizers on the model itself and removes them afterwards. An error, an abandoned generator
or a second flow in between leaves the model changed (and zennit 1.0 leaves merged weights behind in any case). Here the
modules are copied instead: new `Module` objects that share the weights in memory, with buffers of their own. The
caller's model never changes, and several flows on one model do not interfere.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from zennit.core import BasicHook, Composite, Hook
from zennit.rules import Pass

from crp.attribution.copies import replicate
from crp.attribution.hooked_module import HookedModule
from crp.attribution.in_place import made_out_of_place
from crp.attribution.isolation import isolated, isolated_pass
from crp.attribution.layouts import UnknownLayout, layouts_followed
from crp.attribution.norm_merging import merge, merged_parameters
from crp.attribution.observation import Observation, observe, plain_output
from crp.attribution.operation_composite import LIMITED, OperationComposite
from crp.attribution.pooling import PoolRule
from crp.attribution.probing import probe
from crp.attribution.purposes import Purpose
from crp.attribution.rule_operator import RuleOperator
from crp.attribution.ruled_module import PassRule, RuledModule
from crp.attribution.rules import in_fewer_branches
from crp.concepts import Layout
from crp.errors import ModelError, listed

# Attributes of modules of any class; what they hold decides nothing, or is read apart.
_OF_EVERY_MODULE = vars(nn.Module()).keys()


@dataclass
class Replica:
    """A copy of a model with rules on it, for any number of flows.

    Attributes
    ----------
    model
        The copy.
    source
        The caller's model.
    dtype
        The dtype that `prepare` converted the weights to, if any.
    linear
        Whether every rule is a linear operator, which `RelevanceFlow.up` requires.
    batched
        Whether several conditions may share one downward pass.
    notes
        One sentence for each module that runs zennit's own hook, with the reason.
    rules
        The modules under rules: as linear operators, or by zennit's own hooks.
    handles
        The canonizers that were applied to the copy.
    clone_tensors
        Whether tensors are cloned before the model can overwrite them; set after a forward pass that did so.
    operations
        The composite whose rules are also put on functions; None for a composite of the caller.
    in_place
        Activations of the copy that are in place in the model.
    changed
        Whether weights or functions of the copy differ from the model's, so that its output must be compared.
    observed
        Whether a first forward pass was observed.
    merges
        Pairs of names: a linear module of the copy, and the batch norm that is merged into it.
    checked
        Shapes and dtypes of input, and paths through the model, for which the copy's output was compared with the
        model's.
    layouts
        What the axes of a layer's output mean, or why that is not known, by the layer's name and the shape of one
        input.
    probabilities
        How the caller says that the output becomes probabilities of classes, "softmax" or "sigmoid"; None if it was
        not said.
    weights
        Where the model's weights are, and how often they were changed; read when the copy is made.
    settings
        What decides beside them on what the model computes (`_settings`), when the copy was made or last compared.
    edited
        Names of settings that the caller has changed since.
    running
        Held while the copy runs or is observed: a forward pass keeps what it finds at the modules, so two threads take
        turns. What follows the pass belongs to its flow, and needs no turns.
    """

    model: nn.Module
    source: nn.Module
    dtype: torch.dtype | None = None
    linear: bool = True
    batched: bool = True
    notes: list[str] = field(default_factory=list)
    rules: list[RuledModule | HookedModule] = field(default_factory=list)
    handles: list[object] = field(default_factory=list)
    clone_tensors: bool = False
    operations: OperationComposite | None = None
    in_place: list[nn.Module] = field(default_factory=list)
    changed: bool = False
    observed: bool = False
    merges: list[tuple[str, str]] = field(default_factory=list)
    checked: set[tuple] = field(default_factory=set)
    layouts: dict[tuple[str, tuple[int, ...]], Layout | UnknownLayout] = field(default_factory=dict)
    probabilities: str | None = None
    weights: dict[str, tuple[int, int]] = field(init=False)
    settings: dict[str, Any] = field(init=False)
    edited: tuple[str, ...] = ()
    running: AbstractContextManager = field(default_factory=threading.RLock, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.weights, self.settings = _versions(self.source), _settings(self.source)

    def __getstate__(self) -> dict[str, Any]:
        self.check_weights()
        return {name: value for name, value in vars(self).items() if name != "running"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, running=threading.RLock())
        # a deep copy has weights and modules of its own
        self.weights, self.settings = _versions(self.source), _settings(self.source)

    def check_weights(self) -> None:
        """Refuse a model whose weights were changed after it was copied.

        The copy shares some of them, and has others (buffers, merged batch norms) as they were: it is neither the model
        that was copied nor the one that there is now. Of other settings it is not known whether they matter (a model
        may count its calls): if one was changed, the next pass is compared with the model.

        Raises
        ------
        ModelError
        """
        now = _versions(self.source)
        if now != self.weights:
            changed = [name for name in {**self.weights, **now} if self.weights.get(name) != now.get(name)]
            raise ModelError(
                f"The model was changed after it was prepared or mined ({listed(changed, 3)}): prepare it again, and "
                "explain with a library that was mined with these weights."
            )
        settings = _settings(self.source)
        if settings != self.settings:
            edited = [name for name in {**self.settings, **settings} if self.settings.get(name) != settings.get(name)]
            self.edited, self.settings = (*self.edited, *edited), settings
            self.checked.clear()

    @property
    def by_purpose(self) -> bool:
        """Whether relevance that ends at layers has other rules than relevance that ends at the input."""
        return self.operations is not None and self.operations.ranking is not None

    def purposes(self, *, to_input: bool) -> Sequence[Purpose]:
        """List the purposes that a forward pass needs rules for."""
        if not self.by_purpose:
            return (Purpose.MAPS,)
        return (Purpose.RANKING, Purpose.MAPS) if to_input else (Purpose.RANKING,)

    def ruled_function(self, module: nn.Module, name: str, first: bool) -> RuledModule:
        """Put the rules of a linear function, called in the module `name`, on a module that computes it."""
        composites = self._composites(self.operations).items()
        first = first and name == self.operations.network.first
        hooks = {purpose: composite.linear_rule(module, name, first) for purpose, composite in composites}
        return RuledModule(module, _operators(module, hooks), name)

    def _composites(self, composite: Composite) -> dict[Purpose, Composite]:
        if self.by_purpose:
            return {Purpose.RANKING: composite.ranking, Purpose.MAPS: composite}
        return {Purpose.MAPS: composite}

    @isolated_pass()
    def layout_of(self, sample: Tensor, layer: str, layers: Sequence[str]) -> Layout:
        """Say what the axes of a layer's output mean for one sample `[1, ...]`.

        A pass is observed only if none has shown it, and then for some other layers, too. With rules of
        `composite_for`, these are inputs of modules.

        Raises
        ------
        ModelError
            If it is not known which axis is channels.
        """
        shape = tuple(sample.shape[1:])
        with self.running:
            if (layer, shape) not in self.layouts:
                self.observe(sample, [each for each in layers if (each, shape) not in self.layouts])
        found = self.layouts[layer, shape]
        if isinstance(found, UnknownLayout):
            raise ModelError(str(found))
        return found

    def observe(self, data: Tensor, layers: Sequence[str] = ()) -> Observation:
        """Run a plain copy of the model on the data, and keep the layouts of layers.

        The first time, decide what depends on the pass. That is, for an `OperationComposite`: which batch norms are
        merged, and the rules of the first and last layer. For any other composite, only the output is observed.
        """
        plain = replicate(self.source)
        weight = next((value for value in plain.parameters() if value.is_floating_point()), data)
        data = data.detach().to(weight.dtype)
        # the observer keeps all tensors, and so can what follows layouts
        seen = [] if self.operations is None else [name for name, _ in plain.named_modules() if name]
        with layouts_followed(plain, data, dict.fromkeys([*seen, *layers])) as layouts:
            if self.operations is None:
                observation = Observation(len(data), output=plain_output(plain, data))
            else:
                observation = observe(plain, data)
        self.layouts |= {(layer, tuple(data.shape[1:])): layout for layer, layout in layouts.items()}
        if self.operations is not None and not self.observed:
            modules, copies = dict(plain.named_modules()), dict(self.model.named_modules())
            self.merges = observation.merges
            for linear, norm in self.merges:
                parameters = [value.to(self.dtype) for value in merged_parameters(modules[linear], modules[norm])]
                merge(copies[linear], copies[norm], parameters)
            if observation.linear:
                self.operations = self.operations.decided(observation.linear)
            self._put_rules(self.operations)
        self.observed = True
        return observation

    def _put_rules(self, composite: Composite) -> None:
        composites = self._composites(composite)
        contexts: dict[Purpose, dict] = {purpose: {} for purpose in composites}
        for name, module in list(self.model.named_modules()):
            hooks = {
                purpose: rules.module_map(contexts[purpose], name, module) for purpose, rules in composites.items()
            }
            # for one purpose alone no module has a rule: then the function that it calls has one for each
            hook = hooks[Purpose.MAPS] if None not in hooks.values() else None
            replaced = "forward" in module.__dict__
            if replaced and self.operations is not None:
                continue  # whatever it runs now, the functions have rules
            if hook is None:
                if type(module) in (nn.MaxPool2d, nn.MaxPool3d) and not module.return_indices:
                    module.forward = PoolRule(module).forward
                continue
            if type(hook).backward is Pass.backward:
                if self.operations is None or type(module) not in LIMITED:
                    module.forward = PassRule(module).forward
                continue
            operators = None if replaced else _operators(module, hooks)
            if operators is not None:
                self.rules.append(RuledModule(module, operators, name))
                module.forward = self.rules[-1].forward
                continue
            self.linear = self.batched = False
            kind = f"{type(hook).__name__} is not a linear operator"
            why = "its `forward` is not that of its class" if replaced else kind
            self.notes.append(f"'{name}': {why}, so zennit's own hook is used.")
            self.rules.append(HookedModule(self.model, name, hook))
            module.forward = self.rules[-1].forward


def _versions(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return the place of each tensor of a model's state, and the number of its changes, which torch counts."""
    return {
        name: (value.data_ptr(), 0 if value.is_inference() else value._version)
        for name, value in model.state_dict(keep_vars=True).items()
        if isinstance(value, Tensor)
    }


def state_of(model: nn.Module) -> dict[str, Any]:
    """Return what a pass may change in a model, as values that can be compared."""
    return _versions(model) | _settings(model)


def _settings(model: nn.Module) -> dict[str, Any]:
    """Return what decides beside weights on what modules compute: class, hooks, `forward`, numbers and words."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        own, place = vars(module), f"{name}." if name else ""
        hooks = *module._forward_hooks.values(), *module._forward_pre_hooks.values()
        found[name or "the model itself"] = id(module), type(module), *map(id, hooks), id(own.get("forward"))
        for key in own.keys() - _OF_EVERY_MODULE:
            value = own[key]
            if value is None or isinstance(value, int | float | str):
                found[f"{place}{key}"] = value
            elif isinstance(value, tuple):
                if all(one is None or isinstance(one, int | float | str) for one in value):
                    found[f"{place}{key}"] = value
            elif type(value) in (list, dict):
                found[f"{place}{key}"] = len(value)
            elif isinstance(value, Tensor):
                found[f"{place}{key}"] = id(value), 0 if value.is_inference() else value._version
    return found


def _operators(module: nn.Module, hooks: Mapping[Purpose, Hook]) -> dict[Purpose, RuleOperator] | None:
    """Return the rules of a module as linear operators; None if one of them is none."""
    found = {}
    for purpose, hook in hooks.items():
        built_on_basic = type(hook).backward is BasicHook.backward and type(hook).forward is BasicHook.forward
        own = in_fewer_branches(hook) if built_on_basic else hook
        factors = probe(own) if built_on_basic else None
        if factors is None:
            return None
        found[purpose] = RuleOperator(module, own, factors)
    return found


@isolated()
def prepare(model: nn.Module, composite: Composite | None = None, *, dtype: torch.dtype | None = None) -> Replica:
    """Copy a model and put the rules of a composite on the copy.

    Use it before many forward passes, so that weights are copied and modified only once.

    Parameters
    ----------
    model
        The model to explain. It is not changed.
    composite
        A zennit composite. Its canonizers are applied to the copy, and its rules are put on the copy's modules. With
        None relevance flows as the gradient does. The composite itself is not registered anywhere. The rules of
        `composite_for` are put on the copy in its first forward pass, which shows what they depend on.
    dtype
        The dtype of the copy's weights, converted after the canonizers have merged them; by default the model's.

    Returns
    -------
    Replica
    """
    replica = Replica(replicate(model), model, dtype)
    copy = replica.model
    replica.in_place = made_out_of_place(copy)
    hooked = [name for name, module in copy.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    if hooked:
        replica.batched = False
        replica.notes.append(f"Modules with hooks of your own run one condition at a time: {listed(hooked)}.")
    if isinstance(composite, OperationComposite):
        replica.operations, replica.changed = composite, True
    elif composite is not None:
        for canonizer in composite.canonizers:
            replica.handles += canonizer.apply(copy)
        replica.changed = bool(replica.handles)
        replica._put_rules(composite)
    if dtype is not None:
        copy.to(dtype)
    # a canonizer may have added parameters, and the graph must not start at them
    copy.requires_grad_(False)
    return replica
