r"""A zennit rule at a module, as a linear operator.

Once the forward pass is known, an LRP rule is linear in the relevance :math:`R` that arrives at a module's output.
Every rule that zennit builds on `BasicHook` is a sum over branches :math:`i`, each with its own input
:math:`a_i`, weights :math:`W_i` and factors at the output (:math:`m_i`) and at the input (:math:`c_i`):

.. math::
    \mathrm{down}(R) = \sum_i c_i \odot W_i^\top (m_i \odot R), \qquad
    \mathrm{up}(M) = \sum_i m_i \odot W_i\, (c_i \odot M)

For the epsilon rule there is one branch, :math:`c = a` and :math:`m = 1 / (z + \epsilon\,\mathrm{sign} z)`. zennit
works the factors out again in each backward pass; here they are found when relevance first arrives, and kept for all
that follows on the same forward pass. For convolutions and linear layers both directions are written below; for any
other module only `down` is, and autograd derives its transpose.

The factors are not read from zennit's closures. The output factor of a branch is what the rule's gradient mapper makes
of ones; the form of its input factor (a multiple of the branch's input, or a constant) is found by probing the rule's
reducer once (`probing.py`). What does not pass the probe is left to zennit's own hook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from zennit.core import BasicHook, ParamMod
from zennit.layer import Sum

from crp.attribution.probing import InputFactor, mapped, side_kept, stabilizer
from crp.errors import ModelError

# The transposed convolution needs no tensor of the input's shape beside its argument, as a convolution's gradient does.
_CONVOLUTIONS = {
    nn.Conv1d: (nn.functional.conv1d, nn.functional.conv_transpose1d),
    nn.Conv2d: (nn.functional.conv2d, nn.functional.conv_transpose2d),
    nn.Conv3d: (nn.functional.conv3d, nn.functional.conv_transpose3d),
}

# Values that a CPU is given at a time, so that what is made of them on the way stays in its cache: in factors, and in
# pooling, whose vectors need so many channels, too.
_PIECE, _POOLED_PIECE, _POOLED_CHANNELS = 2**18, 2**19, 16

Parameters = dict[str, Tensor | None]


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
        self.sides = [side_kept(modify) for modify in hook.input_modifiers]
        self.sided = any(side in ("positive", "negative") for side in self.sides)
        self.epsilon = stabilizer(hook)
        self.original: Callable[..., Tensor] = module.forward
        self.calls: list[Call] = []
        self.careful = False
        self._parameters: list[Parameters | None] = [None] * len(factors)
        self._turned_weights: list[Tensor | None] = [None] * len(factors)
        self._evens: list[bool | None] = [None] * len(factors)
        self._keeps_sign: list[bool | None] = [None] * len(factors)
        # `type`, not `isinstance`: a subclass may compute something else from the same attributes
        self.convolution = _CONVOLUTIONS.get(type(module)) if getattr(module, "padding_mode", "") == "zeros" else None
        if self.convolution and isinstance(module.padding, str):
            self.convolution = None
        self.summed = module.dim if type(module) is Sum and module.dim < 0 else None
        self.affine = self.convolution is not None or type(module) is nn.Linear or self.summed is not None

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
                if value is None or own is None or value.data_ptr() == own.data_ptr():
                    continue
                # what the rule leaves as it is need not be held twice
                if value.shape == own.shape and torch.equal(value, own):
                    found[name] = own.detach()
            self._parameters[branch] = found
        return found

    def keeps_sign(self, branch: int) -> bool:
        """Whether the branch of an affine module makes no negative value of an input that has none."""
        if self._keeps_sign[branch] is None:
            weights = [value for value in self.parameters(branch).values() if value is not None]
            self._keeps_sign[branch] = (
                self.sides[branch] is not None
                and side_kept(self.hook.output_modifiers[branch]) in ("all", "positive")
                and all(bool(weight.amin() >= 0) for weight in weights)
            )
        return self._keeps_sign[branch]

    def unmodified(self, branch: int) -> bool:
        """Whether the branch uses the module's parameters as they are."""
        own = self.module._parameters
        return all(
            value is None or value.data_ptr() == own[name].data_ptr() for name, value in self.parameters(branch).items()
        )

    def evaluate(self, branch: int, data: Tensor, args: tuple = (), kwargs: dict | None = None) -> Tensor:
        """The module with the branch's parameters."""
        parameters = self.parameters(branch)
        if self.affine:
            return self._weighted(data, parameters.get("weight"), parameters.get("bias"))
        own = self.module._parameters
        self.module._parameters = dict(parameters)
        try:
            return self.original(data, *args, **(kwargs or {}))
        finally:
            self.module._parameters = own

    def weighted(self, branch: int, values: Tensor) -> Tensor:
        """Weights of an affine module, without its bias, on `[N, C, *S]` or `[K, N, C, *S]`.

        Channels that are equal share their memory.
        """
        weight = self.parameters(branch).get("weight")
        if not (self.convolution and self._even(branch)):
            return self._weighted(values, weight, None)
        channels = values.ndim - weight.ndim + 1
        if values.stride(channels) == 0:
            total = values.narrow(channels, 0, 1) * values.shape[channels]
        else:
            total = values.sum(channels, keepdim=True)
        weighted = self._weighted(total, weight[:1, :1], None)
        return weighted.expand(*weighted.shape[:channels], len(weight), *weighted.shape[channels + 1 :])

    def transposed(self, branch: int, relevance: Tensor, shape: Sequence[int]) -> Tensor:
        """Transposed weights of an affine module on `[N, C, *S]` or `[K, N, C, *S]`, for an input of that `shape`.

        Parts that are equal share their memory.
        """
        if self.summed is not None:
            repeated = relevance.unsqueeze(self.summed)
            return repeated.expand(*repeated.shape[: -len(shape)], *shape)
        weight = self.parameters(branch)["weight"]
        if not self.convolution:
            return relevance @ weight
        module, space = self.module, shape[2:]
        flat, lead = self._one_batch(relevance)
        forward, transposed = self.convolution
        around = [
            dilation * (kernel - 1) - padding
            for dilation, kernel, padding in zip(module.dilation, module.kernel_size, module.padding, strict=True)
        ]
        if self._even(branch):
            flat, weight = flat.sum(1, keepdim=True), weight[:1, :1]
        if module.groups == 1 and min(around) >= 0 and set(module.stride) == {1}:
            # The same sums, by code that is faster on a CPU.
            carried = forward(flat, self._turned(branch, weight), None, 1, around, module.dilation)
        elif module.groups == 1 and weight[0, 0].numel() == 1 and not any(module.padding):
            carried = flat.new_zeros(len(flat), weight.shape[1], *space)
            places = tuple(slice(None, None, stride) for stride in module.stride)
            carried[..., *places] = forward(flat, self._turned(branch, weight))
        else:
            # pixels at the far edge that no position of the kernel reached
            left = [
                size - ((count - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
                for size, count, stride, padding, dilation, kernel in zip(
                    space,
                    relevance.shape[-len(space) :],
                    module.stride,
                    module.padding,
                    module.dilation,
                    module.kernel_size,
                    strict=True,
                )
            ]
            carried = transposed(
                flat, weight, None, module.stride, module.padding, left, module.groups, module.dilation
            )
        if self._even(branch):
            carried = carried.repeat(1, module.in_channels, *[1] * len(space))
        return carried.unflatten(0, lead) if lead else carried

    def _even(self, branch: int) -> bool:
        """Whether all pairs of channels have the same kernel (zennit's Flat), so that one pair says it all."""
        if self._evens[branch] is None:
            weight = self.parameters(branch)["weight"]
            self._evens[branch] = self.module.groups == 1 and bool((weight == weight[:1, :1]).all())
        return self._evens[branch]

    def _turned(self, branch: int, weight: Tensor) -> Tensor:
        """The kernel that makes a convolution of the transposed one."""
        found = self._turned_weights[branch]
        if found is None:
            found = self._turned_weights[branch] = weight.flip(*range(2, weight.ndim)).transpose(0, 1).contiguous()
        return found

    def _weighted(self, values: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        if self.summed is not None:
            return values.sum(self.summed)
        if not self.convolution:
            return nn.functional.linear(values, weight, bias)
        module = self.module
        flat, lead = self._one_batch(values)
        forward, _ = self.convolution
        weighted = forward(flat, weight, bias, module.stride, module.padding, module.dilation, module.groups)
        return weighted.unflatten(0, lead) if lead else weighted

    def _one_batch(self, values: Tensor) -> tuple[Tensor, Sequence[int]]:
        """Join the axes of conditions and samples, for a convolution takes but one; their sizes, if there were two."""
        extra = values.ndim - len(self.module.kernel_size) - 2
        return (values.flatten(0, extra), values.shape[: extra + 1]) if extra > 0 else (values, ())


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
    nonnegative: bool = False
    once: bool = False
    branches: list[_Branch] | None = None

    def overwritten(self) -> bool:
        """Whether the model changed the module's input in place after the call."""
        return self.data._version != self.data_version

    def find(self) -> None:
        """Find the factors of the branches, if nobody did."""
        if self.branches is None:
            with torch.no_grad():
                self.branches = self._find_branches()

    def join(self, upper: Call) -> None:
        """Take over the input factor of the call that relevance comes from, if both have but one branch."""
        if len(self.branches) == len(upper.branches) == 1 and upper.branches[0].input_factor is not None:
            self.branches[0].output_factor = self.branches[0].output_factor * upper.branches[0].input_factor
            upper.branches[0].input_factor = None

    def down(self, relevance: Tensor) -> Tensor:
        """Relevance of the module's output -> relevance of its input."""
        self.find()
        if not self.branches:
            # every branch has an input of zeros; the product keeps the link to `relevance` for `up`
            return torch.zeros_like(self.data) * relevance.sum()
        if self.rule.affine:
            return _Linear.apply(relevance, self, False)
        total = None
        for branch in self.branches:
            output, data = branch.graph
            (part,) = torch.autograd.grad(
                output, data, relevance * branch.output_factor, retain_graph=True, create_graph=torch.is_grad_enabled()
            )
            if branch.input_factor is not None:
                part = part * branch.input_factor
            total = part if total is None else total + part
        return total

    def carried(self, values: Tensor, upward: bool) -> Tensor:
        """`down`, or `up`, through an affine module, of `[N, C, *S]` or `[K, N, C, *S]`."""
        total = None
        for branch in self.branches:
            first, last = branch.output_factor, branch.input_factor
            if upward:
                first, last = last, first
            part = values if first is None else values * first
            if upward:
                part = self.rule.weighted(branch.index, part)
            else:
                part = self.rule.transposed(branch.index, part, self.data.shape)
            if last is not None:
                # in place where that can be, for a second tensor of this size costs more than the product
                part = part * last if 0 in part.stride() else part.mul_(last)
            total = part if total is None else total + part
        return total

    def _find_branches(self) -> list[_Branch]:
        rule, hook = self.rule, self.rule.hook
        nothing = torch.zeros((), dtype=self.data.dtype, device=self.data.device).expand(self.data.shape)
        inputs = self._inputs(nothing)
        outputs, graphs, live = [], {}, []
        for index, (value, factor) in enumerate(zip(inputs, rule.factors, strict=True)):
            empty = factor.by_input and value is nothing
            if factor.scale != 0 and not empty:
                live.append(index)
            outputs.append(hook.output_modifiers[index](self._output(index, value, empty, graphs)))
        if not live:
            return []
        output_factors = self._output_factors(outputs)
        branches = []
        for index in live:
            factor = rule.factors[index]
            scale = output_factors[index].detach()
            if factor.scale != 1:
                scale = scale * factor.scale
            branches.append(_Branch(index, scale, inputs[index] if factor.by_input else None, graphs.get(index)))
        return branches

    def _inputs(self, nothing: Tensor) -> list[Tensor]:
        """Inputs of the branches: the module's own where it is the same, `nothing` where it is zero.

        After a ReLU it is one or the other for most rules, and one look at the signs tells.
        """
        data, sides = self.data, self.rule.sides
        nonpositive = self.rule.sided and not self.nonnegative and bool(data.amax() <= 0)
        inputs = []
        for modify, side in zip(self.rule.hook.input_modifiers, sides, strict=True):
            if side == "all" or (side == "positive" and self.nonnegative) or (side == "negative" and nonpositive):
                value = data
            elif (side == "positive" and nonpositive) or (side == "negative" and self.nonnegative):
                value = nothing
            else:
                value = modify(data)
            inputs.append(value)
        return inputs

    def _output_factors(self, outputs: list[Tensor]) -> Sequence[Tensor]:
        """What the rule's gradient mapper makes of ones."""
        if self.rule.affine and self.rule.epsilon is not None:
            # that of a branch without input is one zero everywhere
            summands = {index: output for index, output in enumerate(outputs) if any(output.stride())}
            nonnegative = self.nonnegative and all(map(self.rule.keeps_sign, summands))
            return [_stabilized([*summands.values()], self.rule.epsilon, nonnegative)] * len(outputs)
        hook, shape = self.rule.hook, self.output.shape
        ones = torch.ones((), dtype=self.data.dtype, device=self.data.device).expand(shape)
        if self.data.device.type != "cpu" or len(outputs[0]) == 1:
            return mapped(hook, ones, outputs)
        # A sample at a time: the mapper goes over its argument several times, and one sample fits the caches.
        kept: dict[int, Tensor] = {}
        for place in range(shape[0]):
            here = slice(place, place + 1)
            factors = mapped(hook, ones[here], [output[here] for output in outputs])
            for index, factor in enumerate(factors):
                # branches often have one factor in common
                first = next(other for other, shared in enumerate(factors) if shared is factor)
                if first == index:
                    kept.setdefault(index, torch.empty_like(self.output))[here] = factor
                elif place == 0:
                    kept[index] = kept[first]
        return [kept[index] for index in range(len(outputs))]

    def _output(self, index: int, value: Tensor, empty: bool, graphs: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
        """Output of one branch; for a module that is not affine, with the graph that its transpose runs on."""
        rule = self.rule
        if rule.affine:
            if value is self.data and self.output._version == self.output_version and rule.unmodified(index):
                return self.output
            if empty:
                bias = rule.parameters(index).get("bias")
                if bias is None or not bool(bias.any()):
                    return torch.zeros((), dtype=value.dtype, device=value.device).expand(self.output.shape)
            return rule.evaluate(index, value)
        with torch.enable_grad():
            start = value.detach().requires_grad_()
            output = rule.evaluate(index, start, self.args, self.kwargs)
        graphs[index] = (output, start)
        return output.detach()


def look_at_signs(calls: Iterable[Call]) -> None:
    """Note of which calls the input is nowhere negative, where the rule asks and no ReLU has said it.

    A GPU answers for all of them at once.
    """
    asked = [call for call in calls if call.rule.sided and not call.nonnegative]
    if asked:
        for call, found in zip(asked, torch.stack([_nonnegative(call.data) for call in asked]).tolist(), strict=True):
            call.nonnegative = found


def _known_nonnegative(values: Tensor) -> bool:
    """Whether the values come from a ReLU, or from one through max pooling."""
    return getattr(values.grad_fn, "nonnegative", False)


def _nonnegative(values: Tensor) -> Tensor:
    if values.dtype == torch.bfloat16 and values.device.type == "cpu":
        # compared five times as fast as whole numbers, which have the sign in the same place; only -0 is told wrong
        unsigned = values.view(torch.int16).amin() >= 0
        if unsigned:
            return unsigned
    return values.amin() >= 0


def _stabilized(outputs: Sequence[Tensor], epsilon: float, nonnegative: bool) -> Tensor:
    """`1 / (z + epsilon * sign(z))` for the sum z of outputs: zennit's, in a fifth of the time.

    Convolutions and products of matrices add to 0, so they give no -0, whose sign would differ from zennit's; in a sum
    -0 has summands of zero alone, and no relevance goes to these. Of a sum known to be nowhere negative the sign need
    not be copied, which takes half of the time.
    """
    total = outputs[0] if len(outputs) == 1 else sum(outputs[1:], outputs[0])
    epsilon, factor = total.new_full((), epsilon), torch.empty_like(total)
    for some, found in zip(*_pieces(total, factor), strict=True):
        if nonnegative:
            torch.add(some, epsilon, out=found).reciprocal_()
        else:
            torch.copysign(epsilon, some, out=found).add_(some).reciprocal_()
    return factor


def _pieces(*alike: Tensor) -> list[Sequence[Tensor]]:
    """Tensors of one shape in pieces, all in the order in which the last one lies in memory."""
    last = alike[-1]
    axes = sorted(range(last.ndim), key=last.stride, reverse=True)
    size = _PIECE if last.device.type == "cpu" else last.numel()
    return [values.permute(axes).reshape(-1).split(size) for values in alike]


class _Linear(torch.autograd.Function):
    """A linear operator and its transpose: `operator.carried(values, upward)`.

    Under `torch.vmap`, which carries several conditions, the operator is handed all of them, as `[K, N, C, *S]`. Left
    to itself, vmap would copy what belongs to the samples once for each condition.
    """

    @staticmethod
    def forward(values: Tensor, operator: Call | _Choice, upward: bool) -> Tensor:
        return operator.carried(values, upward)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Call | _Choice, bool], output: Tensor) -> None:
        _, ctx.operator, ctx.upward = inputs

    @staticmethod
    def backward(ctx, values: Tensor) -> tuple[Tensor, None, None]:
        return _Linear.apply(values, ctx.operator, not ctx.upward), None, None

    @staticmethod
    def vmap(info, axes: tuple, values: Tensor, operator: Call | _Choice, upward: bool) -> tuple[Tensor, int]:
        return _Linear.apply(values.movedim(axes[0], 0), operator, upward), 0


class _Ruled(torch.autograd.Function):
    """The module forward, its rule backward."""

    @staticmethod
    def forward(ctx, data: Tensor, rule: LinearRule, args: tuple, kwargs: dict) -> Tensor:
        output = rule.original(data, *args, **kwargs)
        nonnegative = rule.sided and _known_nonnegative(data)
        # detached, or the node would hold the tensor that holds the node
        data, kept = data.detach(), output.detach()
        if rule.careful:
            data = data.clone()
        ctx.call = Call(rule, data, kept, args, kwargs, data._version, kept._version, nonnegative)
        rule.calls.append(ctx.call)
        return output

    @staticmethod
    def backward(ctx, relevance: Tensor) -> tuple[Tensor, None, None, None]:
        call = ctx.call
        if call.once:
            del ctx.call
        return call.down(relevance), None, None, None


class PassRule:
    """zennit's `Pass`: relevance goes through an element-wise module as it is."""

    def __init__(self, module: nn.Module) -> None:
        self.original = module.forward
        self.nonnegative = type(module) is nn.ReLU

    def forward(self, data: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Take the place of the module's forward."""
        if not data.requires_grad:
            return self.original(data, *args, **kwargs)
        return _Passed.apply(data, self, args, kwargs)


class _Passed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, data: Tensor, rule: PassRule, args: tuple, kwargs: dict) -> Tensor:
        ctx.unchanged, ctx.nonnegative = True, rule.nonnegative
        output = rule.original(data, *args, **kwargs)
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


class PoolRule:
    """Max pooling, where relevance goes to the chosen pixel as the gradient does."""

    def __init__(self, module: nn.MaxPool2d) -> None:
        self.module = module
        self.original = module.forward

    def forward(self, data: Tensor) -> Tensor:
        """Take the place of the module's forward."""
        if data.ndim != 4:
            return self.original(data)
        return _Pooled.apply(data, self.module)


@dataclass
class _Choice:
    """Which pixel each output of a max pooling took, in one forward pass."""

    module: nn.MaxPool2d
    data: Tensor
    indices: Tensor

    def carried(self, values: Tensor, upward: bool) -> Tensor:
        """`[N, C, *S]` or `[K, N, C, *S]` down to the pixels, or up from them."""
        if upward:
            flat = values.flatten(-2)
            return flat.gather(-1, self.indices.flatten(2).expand(*flat.shape[:-1], -1)).unflatten(
                -1, self.indices.shape[2:]
            )
        if values.ndim == self.data.ndim:
            return self._down(values)
        # laid out like the data
        carried = torch.empty_like(self.data.expand(len(values), *self.data.shape))
        for one, relevance in zip(carried, values, strict=True):
            self._down(relevance, grad_input=one)
        return carried

    def _down(self, relevance: Tensor, **out: Tensor) -> Tensor:
        module = self.module
        sizes = [
            [size] * 2 if isinstance(size, int) else size
            for size in (module.kernel_size, module.stride, module.padding, module.dilation)
        ]
        return torch.ops.aten.max_pool2d_with_indices_backward(
            relevance, self.data, *sizes, module.ceil_mode, self.indices, **out
        )


def _pooled_last(data: Tensor, pool: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Pool some channels at a time with the channels last, over which torch goes in vectors, not value by value."""
    planes = data.flatten(0, 1)[None]
    space = pool(planes[:, :1].to("meta"))[0].shape[2:]
    output, indices = (torch.empty(1, planes.shape[1], *space, dtype=dtype) for dtype in (data.dtype, torch.int64))
    some = max(_POOLED_CHANNELS, _POOLED_PIECE // planes[0, 0].numel())
    for part, *found in zip(*(values.split(some, 1) for values in (planes, output, indices)), strict=True):
        for place, values in zip(found, pool(part.contiguous(memory_format=torch.channels_last)), strict=True):
            place.copy_(values)
    return output[0].unflatten(0, data.shape[:2]), indices[0].unflatten(0, data.shape[:2])


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, data: Tensor, module: nn.MaxPool2d) -> Tensor:
        pool = partial(
            nn.functional.max_pool2d,
            kernel_size=module.kernel_size,
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
            ceil_mode=module.ceil_mode,
            return_indices=True,
        )
        by_channel = data.device.type == "cpu" and data.is_contiguous()
        output, indices = _pooled_last(data, pool) if by_channel else pool(data)
        ctx.choice, ctx.nonnegative = _Choice(module, data.detach(), indices), _known_nonnegative(data)
        return output

    @staticmethod
    def backward(ctx, relevance: Tensor) -> tuple[Tensor, None]:
        return _Linear.apply(relevance, ctx.choice, False), None
