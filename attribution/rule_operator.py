r"""A zennit rule at a module, as a linear operator.

Given the forward pass, an LRP rule is linear in the relevance :math:`R` that arrives at a module's output. Every rule
that zennit builds on `BasicHook` is a sum over branches :math:`i`, each with its own input :math:`a_i`, weights
:math:`W_i` and factors at the output (:math:`m_i`) and at the input (:math:`c_i`):

.. math::
    \mathrm{down}(R) = \sum_i c_i \odot W_i^\top (m_i \odot R), \qquad
    \mathrm{up}(M) = \sum_i m_i \odot W_i\, (c_i \odot M)

The epsilon rule has one branch, :math:`c = a` and :math:`m = 1 / (z + \epsilon\,\mathrm{sign} z)`. zennit recomputes
the factors in each backward pass. Here they are computed when relevance first arrives, and kept for every later pass
on the same forward pass. For convolutions and linear layers both directions are written out (`modified_module.py`);
for any other module autograd derives the transpose of `down`.

The factors are not read from zennit's closures. The output factor of a branch is what the rule's gradient mapper
returns for ones. The form of its input factor (a multiple of the branch's input, or a constant) is found by probing the
rule's reducer once (`probing.py`). A rule that fails the probe runs as zennit's own hook.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from zennit.core import BasicHook

from crp.attribution.linear_function import LinearFunction
from crp.attribution.modified_module import ModifiedModule
from crp.attribution.probing import InputFactor, mapped, probe, sign_kept, stabilizer
from crp.attribution.signs import is_nonnegative
from crp.attribution.stabilizing import Reciprocal

# Products of larger tensors than this (values) are not made at once if only their sum is needed.
_SUMMED = 2**20
# If at most one channel in `_FEW` has relevance, the others are left out. With fewer channels than `_MANY`, none is.
_FEW, _MANY = 4, 512


class RuleOperator:
    """The rule of one module.

    Parameters
    ----------
    module
        The module of the replica.
    hook
        The zennit rule.
    factors
        The result of `probe` for the rule.
    """

    def __init__(self, module: nn.Module, hook: BasicHook, factors: Sequence[InputFactor]) -> None:
        self.hook = hook
        self.factors = factors
        self.modified = ModifiedModule(module, hook)
        self.signs_kept = [sign_kept(modify) for modify in hook.input_modifiers]
        self.depends_on_sign = any(sign in ("positive", "negative", "magnitude") for sign in self.signs_kept)
        # an input of zero gets no relevance
        self.by_input = all(
            factor.scale == 0 or (factor.by_input and sign is not None)
            for factor, sign in zip(factors, self.signs_kept, strict=True)
        )
        # whether the output of a branch can be the module's own
        self.reads_output = self.modified.affine and any(self.signs_kept)
        self.epsilon = stabilizer(hook)
        shorter = getattr(hook, "at_positive_outputs", None)
        # the rule where no input is negative and relevance comes to positive outputs only (`positive_outputs.py`)
        self.at_positive_outputs = None if shorter is None else RuleOperator(module, shorter, probe(shorter))


@dataclass
class _Branch:
    """One branch of a rule on one forward pass."""

    index: int
    output_factor: Tensor | Reciprocal
    input_factor: Tensor | None
    graph: tuple[Tensor, Tensor] | None = None


@dataclass(eq=False)
class RuleCall:
    """One call of a module under one rule in one forward pass, with the factors of the rule's branches.

    Attributes
    ----------
    output_version
        The version of the output at the time of the call.
    nonnegative
        Whether the input has no negative value; False if unknown.
    branches
        None until the factors are computed.
    above
        The input factor of the call above, if it is a part of the output factors of this one.
    fused
        Whether the input factor of this call is a part of the output factors of the call below.
    """

    operator: RuleOperator
    data: Tensor
    output: Tensor
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    output_version: int = 0
    nonnegative: bool = False
    branches: list[_Branch] | None = None
    above: Tensor | None = None
    fused: bool = False
    _shorter: RuleCall | None = None

    @property
    def at_positive_outputs(self) -> RuleCall | None:
        """The same call by the rule for relevance of positive outputs only; None if there is none."""
        operator = self.operator.at_positive_outputs
        if self._shorter is None and operator is not None and self.nonnegative:
            self._shorter = replace(self, operator=operator, branches=None)
        return self._shorter

    def compute_factors(self) -> None:
        """Compute the factors of the branches, unless they are known."""
        if self.branches is None:
            with torch.no_grad():
                self.branches = self._compute_branches()
            if self.fused:
                self._give_input_factor()
            if self.above is not None:
                self._take(self.above)

    def forget(self) -> None:
        """Forget the factors, some of which may be joined with those of neighbours."""
        for call in self._forms():
            call.branches, call.above, call.fused = None, None, False

    def fuse(self, upper: RuleCall) -> None:
        """Multiply the input factor of the call above, if all its branches share one, into this one's output factor.

        Relevance comes here through that call only, so this holds in all later passes. Several branches would each need
        a product.
        """
        factors = [form.shared_factor for form in upper._forms() if form.branches]
        single = [len(form.branches) == 1 for form in self._forms() if form.branches]
        if not factors or factors[0] is None or not single or not all(single):
            return
        for form in upper._forms():
            form._give_input_factor()
        for form in self._forms():
            form._take(factors[0])

    def _give_input_factor(self) -> None:
        self.fused = True
        for branch in self.branches or ():
            branch.input_factor = None

    def _take(self, factor: Tensor) -> None:
        self.above = factor
        for branch in self.branches or ():
            branch.output_factor = _tensor(branch.output_factor) * factor

    @property
    def shared_factor(self) -> Tensor | None:
        """The input factor that all branches have; None if they differ, or it is in the factors of the call below."""
        first, *others = (branch.input_factor for branch in self.branches)
        return first if all(factor is first for factor in others) else None

    def _forms(self) -> Iterator[RuleCall]:
        return (call for call in (self, self._shorter) if call is not None)

    def down(self, relevance: Tensor) -> Tensor:
        """Map relevance of the module's output to relevance of its input."""
        self.compute_factors()
        if not self.branches:
            # the input of every branch is zero; the product keeps `relevance` in the graph for `up`
            return torch.zeros_like(self.data) * relevance.sum()
        if self.operator.modified.affine:
            return LinearFunction.apply(relevance, self, False)
        total = None
        for branch in self.branches:
            output, data = branch.graph
            scaled = _times(relevance, branch.output_factor)
            (part,) = torch.autograd.grad(
                output, data, scaled, retain_graph=True, create_graph=torch.is_grad_enabled()
            )
            if branch.input_factor is not None:
                # the factor first: the product has its layout in memory, which is that of the forward pass
                part = branch.input_factor * part
            total = part if total is None else total + part
        return total

    def propagate(self, values: Tensor, upward: bool) -> Tensor:
        """`down`, or `up`, through an affine module, of `[N, C, *S]` or `[K, N, C, *S]`."""
        shared = self.shared_factor
        if upward and shared is not None:
            values = self._product(values, shared)
        total = None
        for branch in self.branches:
            own = None if shared is not None else branch.input_factor
            part = self._upward(branch, values, own) if upward else self._downward(branch, values, own)
            total = part if total is None else _sum(total, part)
        return total if upward or shared is None else self._scaled(total, shared)

    def _upward(self, branch: _Branch, values: Tensor, input_factor: Tensor | None) -> Tensor:
        part = values if input_factor is None else self._product(values, input_factor)
        return self._scaled(self.operator.modified.weighted(branch.index, part), branch.output_factor)

    def _downward(self, branch: _Branch, values: Tensor, input_factor: Tensor | None) -> Tensor:
        modified = self.operator.modified
        if modified.has_uniform_kernel(branch.index):
            part = self._summed_product(values, _tensor(branch.output_factor))  # all channels have one sum
            part = modified.transposed(branch.index, part, self.data.shape)
        elif (channels := self._few_channels(values)) is not None:
            factor, axis = branch.output_factor, values.ndim - self.data.ndim + 1
            own = factor.index_select(1, channels) if isinstance(factor, Tensor) else factor.of_channels(channels)
            part = values.index_select(axis, channels) * own
            part = modified.transposed(branch.index, part, self.data.shape, channels)
        else:
            part = modified.transposed(branch.index, self._product(values, branch.output_factor), self.data.shape)
        return part if input_factor is None else self._scaled(part, input_factor)

    def _few_channels(self, values: Tensor) -> Tensor | None:
        """Find the channels with relevance, int64 `[k]`, if a convolution with many has so few that the rest can go.

        If a convolution gives the logits, relevance of a class starts in one of its channels.
        """
        axis = values.ndim - self.data.ndim + 1
        own = values.device.type == "cpu" and not torch._C._functorch.is_functorch_wrapped_tensor(values)
        if values.shape[axis] < _MANY or not own or not self.operator.modified.divides_channels:
            return None
        most = values.shape[axis] // _FEW
        if int((values[(0,) * axis] != 0).flatten(1).any(1).sum()) > most:  # says it of almost all that have many
            return None
        channels = (values != 0).flatten(axis + 1).any(-1).flatten(0, -2).any(0).nonzero()[:, 0]
        return channels if 0 < len(channels) <= most else None

    def _scaled(self, values: Tensor, factor: Tensor | Reciprocal) -> Tensor:
        """Multiply values that nothing else reads.

        In place where possible: allocating a second tensor of this size costs more than the product.
        """
        in_place = isinstance(factor, Tensor) and 0 not in values.stride()
        return values.mul_(factor) if in_place else self._product(values, factor)

    def _product(self, values: Tensor, factor: Tensor | Reciprocal) -> Tensor:
        """Multiply `[N, C, *S]` or `[K, N, C, *S]` by a factor; channels that are equal in both share memory."""
        channels = values.ndim - self.data.ndim + 1
        if not isinstance(factor, Tensor):
            return factor.times(values)
        if factor.ndim < 3 or values.stride(channels) or factor.stride(1) or values.shape[channels] == 1:
            return values * factor
        return (values.narrow(channels, 0, 1) * factor[:, :1]).expand(*values.shape)

    def _summed_product(self, values: Tensor, factor: Tensor) -> Tensor:
        """Multiply by a factor and add up the channels, in pieces along the first axis of space: no whole product."""
        axis = values.ndim - self.data.ndim + 2
        if factor.stride(1) == 0:
            return values.sum(axis - 1, keepdim=True) * factor[:, :1]
        step = max(1, _SUMMED * values.shape[axis] // values.numel())
        pieces = zip(values.split(step, axis), factor.split(step, 2), strict=True)
        sums = [(part * own).sum(axis - 1, keepdim=True) for part, own in pieces]
        return sums[0] if len(sums) == 1 else torch.cat(sums, axis)

    def _compute_branches(self) -> list[_Branch]:
        operator, hook = self.operator, self.operator.hook
        zero = torch.zeros((), dtype=self.data.dtype, device=self.data.device).expand(self.data.shape)
        inputs = self._branch_inputs(zero)
        outputs, graphs, live = [], {}, []
        for index, (value, factor) in enumerate(zip(inputs, operator.factors, strict=True)):
            empty = factor.by_input and value is zero
            if factor.scale != 0 and not empty:
                live.append(index)
            outputs.append(hook.output_modifiers[index](self._branch_output(index, value, empty, graphs)))
        if not live:
            return []
        output_factors = self._output_factors(outputs, live)
        branches = []
        for index in live:
            factor = operator.factors[index]
            scale = output_factors[index]
            if factor.scale != 1:
                scale = _tensor(scale) * factor.scale
            branches.append(_Branch(index, scale, inputs[index] if factor.by_input else None, graphs.get(index)))
        return branches

    def _branch_inputs(self, zero: Tensor) -> list[Tensor]:
        """Return the inputs of the branches: the module's own input where it is the same, `zero` where it vanishes.

        After a ReLU most rules have only these two cases, and one check of the signs decides.
        """
        data = self.data
        nonpositive = self.operator.depends_on_sign and not self.nonnegative and bool(data.amax() <= 0)
        inputs = []
        for modify, sign in zip(self.operator.hook.input_modifiers, self.operator.signs_kept, strict=True):
            positive = sign in ("positive", "magnitude") and self.nonnegative
            if sign == "all" or positive or (sign == "negative" and nonpositive):
                value = data
            elif (sign == "positive" and nonpositive) or (sign == "negative" and self.nonnegative):
                value = zero
            else:
                value = modify(data)
            inputs.append(value)
        return inputs

    def _output_factors(self, outputs: list[Tensor], live: Sequence[int]) -> Mapping[int, Tensor | Reciprocal]:
        """Return what the rule's gradient mapper returns for ones, for some branches."""
        operator = self.operator
        if operator.modified.affine and operator.epsilon is not None:
            # the output of a branch without input is one expanded zero
            summands = {index: output for index, output in enumerate(outputs) if any(output.stride())}
            nonnegative = self.nonnegative and all(map(operator.modified.keeps_sign, summands))
            first, *others = summands.values()
            # Convolutions and matrix products never produce -0, for which zennit's sign would differ. A `Sum` module
            # produces -0 only where all summands are zero, and these receive no relevance.
            total = sum(others, first)
            if total.shape[1] > 1 and total.stride(1) == 0:  # equal channels share memory
                one = Reciprocal(total.narrow(1, 0, 1), operator.epsilon, nonnegative=nonnegative)
                return dict.fromkeys(live, one.tensor.expand_as(total))
            return dict.fromkeys(live, Reciprocal(total, operator.epsilon, nonnegative=nonnegative))
        hook, shape = operator.hook, self.output.shape
        ones = torch.ones((), dtype=self.data.dtype, device=self.data.device).expand(shape)
        own = next((output for output in outputs if any(output.stride())), outputs[0])
        if self.data.device.type != "cpu" or len(outputs[0]) == 1:
            return dict(enumerate(mapped(hook, ones, outputs)))
        # One sample at a time: the mapper reads its argument several times, and one sample fits the caches.
        kept: dict[int, Tensor] = {}
        for place in range(shape[0]):
            here = slice(place, place + 1)
            factors = mapped(hook, ones[here], [output[here] for output in outputs])
            for index in live:
                # branches often share one factor
                first = next(other for other in live if factors[other] is factors[index])
                if first == index:
                    kept.setdefault(index, torch.empty_like(own))[here] = factors[index]
                elif place == 0:
                    kept[index] = kept[first]
        return kept

    def _branch_output(
        self, index: int, value: Tensor, empty: bool, graphs: dict[int, tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Output of one branch; if the module is not affine, also the graph from which autograd transposes it."""
        modified = self.operator.modified
        if modified.affine:
            if value is self.data and self.output._version == self.output_version and modified.unmodified(index):
                return self.output
            if empty:
                bias = modified.parameters(index).get("bias")
                if bias is None or not bool(bias.any()):
                    return torch.zeros((), dtype=value.dtype, device=value.device).expand(self.output.shape)
            return modified.evaluate(index, value)
        with torch.enable_grad():
            start = value.detach().requires_grad_()
            output = modified.evaluate(index, start, self.args, self.kwargs)
        graphs[index] = (output, start)
        return output.detach()


def mark_nonnegative_inputs(calls: Iterable[RuleCall]) -> None:
    """Set `nonnegative` on the calls whose input has no negative value.

    Only calls whose rule depends on the sign, and whose input is not known to come from a ReLU, are checked. The
    results of all checks are transferred from a GPU in one step.
    """
    unknown = [call for call in calls if call.operator.depends_on_sign and not call.nonnegative]
    if unknown:
        checks = torch.stack([is_nonnegative(call.data) for call in unknown]).tolist()
        for call, nonnegative in zip(unknown, checks, strict=True):
            call.nonnegative = nonnegative


def _tensor(factor: Tensor | Reciprocal) -> Tensor:
    return factor if isinstance(factor, Tensor) else factor.tensor


def _sum(total: Tensor, part: Tensor) -> Tensor:
    """Add values to others that nothing else reads."""
    return total + part if 0 in total.stride() else total.add_(part)


def _times(values: Tensor, factor: Tensor | Reciprocal) -> Tensor:
    return values * factor if isinstance(factor, Tensor) else factor.times(values)
