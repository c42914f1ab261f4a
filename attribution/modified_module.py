"""A module with the parameters of each branch of its rule, and its weights in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from zennit.core import BasicHook, ParamMod
from zennit.layer import Sum

from crp.attribution.copies import copied_alone
from crp.attribution.probing import sign_kept

# The transposed convolution allocates no tensor of the input's shape beside its result; the gradient of a convolution
# does.
_CONVOLUTIONS = {
    nn.Conv1d: (nn.functional.conv1d, nn.functional.conv_transpose1d),
    nn.Conv2d: (nn.functional.conv2d, nn.functional.conv_transpose2d),
    nn.Conv3d: (nn.functional.conv3d, nn.functional.conv_transpose3d),
}

# What is copied at once for a convolution of one channel of a volume, in values.
_COLUMNS = 2**20

Parameters = dict[str, Tensor | None]


class ModifiedModule:
    """A module under a rule: each branch of the rule modifies its parameters, once for all forward passes.

    Parameters
    ----------
    module
        The module of the replica.
    hook
        The zennit rule.

    Attributes
    ----------
    affine
        Whether the module is a convolution, a linear layer or a sum, whose transpose is written out here.
    """

    def __init__(self, module: nn.Module, hook: BasicHook) -> None:
        self.module = module
        self.hook = hook
        self.original: Callable[..., Tensor] = module.forward
        branches = len(hook.input_modifiers)
        self._parameters: list[Parameters | None] = [None] * branches
        self._flipped_kernels: list[Tensor | None] = [None] * branches
        self._uniform: list[bool | None] = [None] * branches
        self._keeps_sign: list[bool | None] = [None] * branches
        # `type`, not `isinstance`: a subclass may compute something else from the same attributes
        self._convolution = _CONVOLUTIONS.get(type(module)) if getattr(module, "padding_mode", "") == "zeros" else None
        if self._convolution and isinstance(module.padding, str):
            self._convolution = None
        self._summed_axis = module.dim if type(module) is Sum and module.dim < 0 else None
        self.affine = self._convolution is not None or type(module) is nn.Linear or self._summed_axis is not None

    def parameters(self, branch: int) -> Parameters:
        """Return the module's own parameters as the branch modifies them."""
        found = self._parameters[branch]
        if found is None:
            copy = copied_alone(self.module, self.original)
            with ParamMod.ensure(self.hook.param_modifiers[branch])(copy) as modified:
                found = {
                    name: None if value is None else value.detach() for name, value in modified._parameters.items()
                }
            for name, value in found.items():
                own = self.module._parameters[name]
                if value is None or own is None or value.data_ptr() == own.data_ptr():
                    continue
                # an equal copy need not be stored
                if value.shape == own.shape and torch.equal(value, own):
                    found[name] = own.detach()
            self._parameters[branch] = found
        return found

    def keeps_sign(self, branch: int) -> bool:
        """Return whether the branch of an affine module maps nonnegative input to nonnegative output."""
        if self._keeps_sign[branch] is None:
            weights = [value for value in self.parameters(branch).values() if value is not None]
            self._keeps_sign[branch] = (
                sign_kept(self.hook.input_modifiers[branch]) is not None
                and sign_kept(self.hook.output_modifiers[branch]) in ("all", "positive")
                and all(bool(weight.amin() >= 0) for weight in weights)
            )
        return self._keeps_sign[branch]

    def unmodified(self, branch: int) -> bool:
        """Return whether the branch uses the module's parameters as they are."""
        own = self.module._parameters
        return all(
            value is None or value.data_ptr() == own[name].data_ptr() for name, value in self.parameters(branch).items()
        )

    def evaluate(self, branch: int, data: Tensor, args: tuple = (), kwargs: dict | None = None) -> Tensor:
        """Run the module with the branch's parameters. Equal channels of the result may share memory."""
        parameters = self.parameters(branch)
        if self.affine:
            bias = parameters.get("bias")
            if self.has_uniform_kernel(branch) and (bias is None or not bool(bias.any())):
                return self.weighted(branch, data)
            return self._apply_weight(data, parameters.get("weight"), bias)
        copy = copied_alone(self.module, self.original)
        copy._parameters = dict(parameters)
        return copy.forward(data, *args, **(kwargs or {}))

    def weighted(self, branch: int, values: Tensor) -> Tensor:
        """Apply the weights of an affine module, without its bias, to `[N, C, *S]` or `[K, N, C, *S]`.

        Equal channels of the result share memory.
        """
        weight = self.parameters(branch).get("weight")
        if not self.has_uniform_kernel(branch):
            return self._apply_weight(values, weight, None)
        channels = values.ndim - weight.ndim + 1
        if values.stride(channels) == 0:
            total = values.narrow(channels, 0, 1) * values.shape[channels]
        else:
            total = values.sum(channels, keepdim=True)
        weighted = self._apply_weight(total, weight[:1, :1], None)
        return weighted.expand(*weighted.shape[:channels], len(weight), *weighted.shape[channels + 1 :])

    @property
    def divides_channels(self) -> bool:
        """Whether some of the output's channels can be transposed alone."""
        return self._convolution is not None and self.module.groups == 1

    def transposed(
        self, branch: int, relevance: Tensor, shape: Sequence[int], channels: Tensor | None = None
    ) -> Tensor:
        """Apply the transposed weights of an affine module to `[N, C, *S]` or `[K, N, C, *S]`.

        `shape` is that of the module's input. With a uniform kernel, the sum over the channels is enough. With
        `channels`, int64 `[k]`, relevance is that of these channels of the output alone.
        """
        if self._summed_axis is not None:
            repeated = relevance.unsqueeze(self._summed_axis)
            return repeated.expand(*repeated.shape[: -len(shape)], *shape)
        weight = self.parameters(branch)["weight"]
        if not self._convolution:
            # joined here, because torch would multiply each sample by the weight if they do not lie one after the other
            return (relevance.reshape(-1, len(weight)) @ weight).view(*relevance.shape[:-1], weight.shape[1])
        module, space = self.module, shape[2:]
        flat, lead = self._flatten_lead(relevance)
        forward, transposed = self._convolution
        around = [
            dilation * (kernel - 1) - padding
            for dilation, kernel, padding in zip(module.dilation, module.kernel_size, module.padding, strict=True)
        ]
        if self.has_uniform_kernel(branch):
            weight = weight[:1, :1]
            flat = flat if flat.shape[1] == 1 else flat.sum(1, keepdim=True)
        if module.groups == 1 and min(around) >= 0 and set(module.stride) == {1}:
            # The same sums as a convolution, which is faster on a CPU.
            kernel = _some(self._flipped_kernel(branch, weight), 1, channels)
            result = _convolved(forward, flat, kernel, around, module.dilation)
        elif module.groups == 1 and weight[0, 0].numel() == 1 and not any(module.padding):
            result = flat.new_zeros(len(flat), weight.shape[1], *space)
            places = tuple(slice(None, None, stride) for stride in module.stride)
            result[..., *places] = forward(flat, _some(self._flipped_kernel(branch, weight), 1, channels))
        else:
            # pixels at the far edge that no position of the kernel reached
            unreached = [
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
            kernel = _some(weight, 0, channels)
            result = transposed(
                flat, kernel, None, module.stride, module.padding, unreached, module.groups, module.dilation
            )
        if self.has_uniform_kernel(branch):
            result = result.repeat(1, module.in_channels, *[1] * len(space))
        return result.unflatten(0, lead) if lead else result

    def has_uniform_kernel(self, branch: int) -> bool:
        """Return whether this is a convolution whose channels all have the same kernel: one pair is enough (Flat)."""
        if self._convolution is None:
            return False
        if self._uniform[branch] is None:
            weight = self.parameters(branch)["weight"]
            self._uniform[branch] = self.module.groups == 1 and bool((weight == weight[:1, :1]).all())
        return self._uniform[branch]

    def _flipped_kernel(self, branch: int, weight: Tensor) -> Tensor:
        """Return the kernel with which a convolution computes the transposed convolution."""
        found = self._flipped_kernels[branch]
        if found is None:
            found = self._flipped_kernels[branch] = weight.flip(*range(2, weight.ndim)).transpose(0, 1).contiguous()
        return found

    def _apply_weight(self, values: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        if self._summed_axis is not None:
            return values.sum(self._summed_axis)
        if not self._convolution:
            return nn.functional.linear(values, weight, bias)
        module = self.module
        flat, lead = self._flatten_lead(values)
        forward, _ = self._convolution
        if len(weight) == weight.shape[1] == 1 and bias is None and set(module.stride) == {1}:
            weighted = _convolved(forward, flat, weight, module.padding, module.dilation)
        else:
            weighted = forward(flat, weight, bias, module.stride, module.padding, module.dilation, module.groups)
        return weighted.unflatten(0, lead) if lead else weighted

    def _flatten_lead(self, values: Tensor) -> tuple[Tensor, Sequence[int]]:
        """Join the axes of conditions and samples into one, and return their sizes if there were two."""
        extra = values.ndim - len(self.module.kernel_size) - 2
        return (values.flatten(0, extra), values.shape[: extra + 1]) if extra > 0 else (values, ())


def _some(values: Tensor, axis: int, places: Tensor | None) -> Tensor:
    return values if places is None else values.index_select(axis, places)


def _convolved(
    convolution: Callable[..., Tensor], data: Tensor, kernel: Tensor, around: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Convolve; a single channel of a volume in pieces along its first axis.

    On a CPU, torch copies the surroundings of each of its voxels (27 values for a kernel of 3 x 3 x 3) before it
    multiplies them.
    """
    step = _COLUMNS // (data[0, 0, :1].numel() * kernel[0, 0].numel())
    if data.ndim != 5 or data.shape[:2] != (1, 1) or data.device.type != "cpu" or data.shape[2] <= max(1, step):
        return convolution(data, kernel, None, 1, around, dilation)
    padded = nn.functional.pad(data, (0, 0, 0, 0, around[0], around[0]))
    window = dilation[0] * (kernel.shape[2] - 1)
    count = padded.shape[2] - window
    step = max(1, step)
    around = [0, *around[1:]]
    return torch.cat(
        [
            convolution(padded[:, :, first : min(first + step, count) + window], kernel, None, 1, around, dilation)
            for first in range(0, count, step)
        ],
        2,
    )
