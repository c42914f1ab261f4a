r"""A zennit rule at a module, as a linear operator.

Once the forward pass is known, an LRP rule is linear in the relevance :math:`R` that arrives at a module's output.
Every rule that zennit builds on `BasicHook` is a sum over branches :math:`i`, each with its own input
:math:`a_i`, weights :math:`W_i` and factors at the output (:math:`m_i`) and at the input (:math:`c_i`):

.. math::
    \mathrm{down}(R) = \sum_i c_i \odot W_i^\top (m_i \odot R), \qquad
    \mathrm{up}(M) = \sum_i m_i \odot W_i\, (c_i \odot M)

For the epsilon rule there is one branch, :math:`c = a` and :math:`m = 1 / (z + \epsilon\,\mathrm{sign} z)`. zennit
works the factors out again in each backward pass; here they are found when relevance first arrives, and kept for all
that follows on the same forward pass. Only `down` is written below; `up` is its transpose, which autograd derives.

The factors are not read from zennit's closures. The output factor of a branch is what the rule's gradient mapper makes
of ones; the form of its input factor (a multiple of the branch's input, or a constant) is found by probing the rule's
reducer once. What does not pass the probe is left to zennit's own hook.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from zennit.core import BasicHook, ParamMod

from crp.errors import ModelError

_CONVOLUTIONS = {
    nn.Conv1d: (torch.nn.functional.conv1d, torch.nn.grad.conv1d_input),
    nn.Conv2d: (torch.nn.functional.conv2d, torch.nn.grad.conv2d_input),
    nn.Conv3d: (torch.nn.functional.conv3d, torch.nn.grad.conv3d_input),
}

Parameters = dict[str, Tensor | None]


@dataclass(frozen=True)
class InputFactor:
    """How a rule weighs a branch at the module's input: `scale * input` if `by_input`, else `scale`."""

    scale: float
    by_input: bool


def probe(hook: BasicHook) -> list[InputFactor] | None:
    """Find whether a rule is linear branch by branch, and its input factors.

    Parameters
    ----------
    hook
        A zennit rule built of modifiers, gradient mapper and reducer.

    Returns
    -------
    list of InputFactor or None
        One for each branch; None if the rule is not of the form in this module's docstring.
    """
    generator = torch.Generator().manual_seed(0)

    def sample() -> Tensor:
        return torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64)

    count = len(hook.input_modifiers)
    outputs = [sample() for _ in range(count)]
    inputs = [sample() for _ in range(count)]
    relevance, zero = sample(), torch.zeros(2, 3, 2, 2, dtype=torch.float64)
    try:
        mapped = _mapped(hook, relevance, outputs)
        factors = _mapped(hook, torch.ones_like(relevance), outputs)
        if not all(torch.allclose(left, relevance * right) for left, right in zip(mapped, factors, strict=True)):
            return None
        found = []
        for branch in range(count):
            gradients = [relevance if index == branch else zero for index in range(count)]
            factor = hook.reducer(inputs, gradients) / relevance
            for by_input, reference in ((True, inputs[branch]), (False, torch.ones_like(relevance))):
                scale = float((factor / reference).flatten()[0])
                if torch.allclose(factor, scale * reference):
                    found.append(InputFactor(scale, by_input))
                    break
            else:
                return None
        everything = hook.reducer(inputs, [relevance] * count)
    except (RuntimeError, TypeError, ValueError, IndexError):
        # the rule expects shapes of its own module; zennit's hook will run it there
        return None
    parts = sum(
        factor.scale * (value if factor.by_input else 1.0) * relevance
        for factor, value in zip(found, inputs, strict=True)
    )
    return found if torch.allclose(everything, parts) else None


def _mapped(hook: BasicHook, relevance: Tensor, outputs: list[Tensor]) -> Sequence[Tensor]:
    """The rule's gradient mapper; a rule of one branch may give a bare tensor."""
    mapped = hook.gradient_mapper(relevance, outputs)
    return (mapped,) if isinstance(mapped, Tensor) else mapped


class LinearRule:
    """The rule of one module, with its modified weights worked out once.

    Parameters
    ----------
    module
        The module of the replica.
    hook
        The zennit rule.
    factors
        What `probe` found for it.
    """

    def __init__(self, module: nn.Module, hook: BasicHook, factors: Sequence[InputFactor]) -> None:
        self.module = module
        self.hook = hook
        self.factors = factors
        self.original: Callable[..., Tensor] = module.forward
        self.calls: list[Call] = []
        self.careful = False
        self._parameters: list[Parameters | None] = [None] * len(factors)
        # `type`, not `isinstance`: a subclass may compute something else from the same attributes
        self.convolution = _CONVOLUTIONS.get(type(module)) if getattr(module, "padding_mode", "") == "zeros" else None
        if self.convolution and isinstance(module.padding, str):
            self.convolution = None
        self.affine = self.convolution is not None or type(module) is nn.Linear

    def forward(self, data: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Take the place of the module's forward."""
        if not data.requires_grad:
            return self.original(data, *args, **kwargs)
        return _Ruled.apply(data, self, args, kwargs)

    def parameters(self, branch: int) -> Parameters:
        """The module's own parameters as the branch modifies them."""
        found = self._parameters[branch]
        if found is None:
            with ParamMod.ensure(self.hook.param_modifiers[branch])(self.module) as modified:
                found = {
                    name: None if value is None else value.detach() for name, value in modified._parameters.items()
                }
            for name, value in found.items():
                own = self.module._parameters[name]
                # what the rule leaves as it is need not be held twice
                if value is not None and own is not None and value.shape == own.shape and torch.equal(value, own):
                    found[name] = own.detach()
            self._parameters[branch] = found
        return found

    def unmodified(self, branch: int) -> bool:
        """Whether the branch uses the module's parameters as they are."""
        own = self.module._parameters
        return all(
            value is None or value.data_ptr() == own[name].data_ptr()
            for name, value in self.parameters(branch).items()
        )

    def evaluate(self, branch: int, data: Tensor, args: tuple = (), kwargs: dict | None = None) -> Tensor:
        """The module with the branch's parameters."""
        parameters = self.parameters(branch)
        if self.convolution:
            module = self.module
            forward, _ = self.convolution
            return forward(
                data,
                parameters["weight"],
                parameters["bias"],
                module.stride,
                module.padding,
                module.dilation,
                module.groups,
            )
        if self.affine:
            return nn.functional.linear(data, parameters["weight"], parameters["bias"])
        own = self.module._parameters
        self.module._parameters = dict(parameters)
        try:
            return self.original(data, *args, **(kwargs or {}))
        finally:
            self.module._parameters = own

    def transpose(self, branch: int, relevance: Tensor, shape: torch.Size) -> Tensor:
        """Transposed weights of an affine module on `relevance`, giving a tensor of `shape`."""
        weight = self.parameters(branch)["weight"]
        if self.convolution:
            module = self.module
            _, backward = self.convolution
            return backward(shape, weight, relevance, module.stride, module.padding, module.dilation, module.groups)
        return relevance @ weight


@dataclass
class _Branch:
    """One branch of a rule on one forward pass."""

    index: int
    output_factor: Tensor
    input_factor: Tensor | None
    graph: tuple[Tensor, Tensor] | None = None


@dataclass
class Call:
    """One call of a module under a rule in one forward pass: what `down` needs, found when it is first asked."""

    rule: LinearRule
    data: Tensor
    output: Tensor
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    data_version: int = 0
    output_version: int = 0
    branches: list[_Branch] | None = None

    def overwritten(self) -> bool:
        """Whether the model changed the module's input in place after the call."""
        return self.data._version != self.data_version

    def down(self, relevance: Tensor) -> Tensor:
        """Relevance of the module's output -> relevance of its input."""
        if self.branches is None:
            with torch.no_grad():
                self.branches = self._find_branches()
        total = None
        for branch in self.branches:
            scaled = relevance * branch.output_factor
            if branch.graph is None:
                part = self.rule.transpose(branch.index, scaled, self.data.shape)
            else:
                output, data = branch.graph
                (part,) = torch.autograd.grad(
                    output, data, scaled, retain_graph=True, create_graph=torch.is_grad_enabled()
                )
            if branch.input_factor is not None:
                part = part * branch.input_factor
            total = part if total is None else total + part
        if total is None:
            # every branch has an input of zeros; the product keeps the link to `relevance` for `up`
            total = torch.zeros_like(self.data) * relevance.sum()
        return total

    def _find_branches(self) -> list[_Branch]:
        rule, hook = self.rule, self.rule.hook
        inputs = [modify(self.data) for modify in hook.input_modifiers]
        outputs, graphs, live = [], {}, []
        for index, (value, factor) in enumerate(zip(inputs, rule.factors, strict=True)):
            # After a ReLU half of most rules' branches have an input of zeros: they pass nothing on.
            empty = factor.by_input and value is not self.data and not bool(value.any())
            if factor.scale != 0 and not empty:
                live.append(index)
            outputs.append(hook.output_modifiers[index](self._output(index, value, empty, graphs)))
        ones = torch.ones((), dtype=self.data.dtype, device=self.data.device).expand(self.output.shape)
        output_factors = _mapped(hook, ones, outputs)
        branches = []
        for index in live:
            factor = rule.factors[index]
            scale = output_factors[index].detach()
            if factor.scale != 1:
                scale = scale * factor.scale
            branches.append(_Branch(index, scale, inputs[index] if factor.by_input else None, graphs.get(index)))
        return branches

    def _output(self, index: int, value: Tensor, empty: bool, graphs: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
        """Output of one branch; for a module that is not affine, with the graph that its transpose runs on."""
        rule = self.rule
        if rule.affine:
            if value is self.data and self.output._version == self.output_version and rule.unmodified(index):
                return self.output
            if empty:
                bias = rule.parameters(index)["bias"]
                if bias is None or not bool(bias.any()):
                    return torch.zeros((), dtype=value.dtype, device=value.device).expand(self.output.shape)
            return rule.evaluate(index, value)
        with torch.enable_grad():
            start = value.detach().requires_grad_()
            output = rule.evaluate(index, start, self.args, self.kwargs)
        graphs[index] = (output, start)
        return output.detach()


class _Ruled(torch.autograd.Function):
    """The module forward, its rule backward."""

    @staticmethod
    def forward(ctx, data: Tensor, rule: LinearRule, args: tuple, kwargs: dict) -> Tensor:
        output = rule.original(data, *args, **kwargs)
        # detached, or the node would hold the tensor that holds the node
        data, kept = data.detach(), output.detach()
        if rule.careful:
            data = data.clone()
        ctx.call = Call(rule, data, kept, args, kwargs, data._version, kept._version)
        rule.calls.append(ctx.call)
        return output

    @staticmethod
    def backward(ctx, relevance: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.call.down(relevance), None, None, None


class PassRule:
    """zennit's `Pass`: relevance goes through an element-wise module as it is."""

    def __init__(self, module: nn.Module) -> None:
        self.original = module.forward

    def forward(self, data: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Take the place of the module's forward."""
        if not data.requires_grad:
            return self.original(data, *args, **kwargs)
        return _Passed.apply(data, self.original, args, kwargs)


class _Passed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, data: Tensor, original: Callable[..., Tensor], args: tuple, kwargs: dict) -> Tensor:
        output = original(data, *args, **kwargs)
        if output.shape != data.shape:
            raise ModelError(
                f"The rule Pass is put on a module that changes the shape of its input from {tuple(data.shape)} to "
                f"{tuple(output.shape)}; relevance cannot pass it as it is."
            )
        # a module that hands its input on (dropout in evaluation) must still give a tensor of its own
        return output.view_as(output) if output is data else output

    @staticmethod
    def backward(ctx, relevance: Tensor) -> tuple[Tensor, None, None, None]:
        return relevance, None, None, None
