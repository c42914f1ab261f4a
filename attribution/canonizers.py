"""Canonizers that read a model's source instead of knowing its classes.

A rule can only be put on a module. Additions of two tensors and means over space are often function calls in a module's
`forward`. Autograd then copies the relevance of a sum to *both* summands, so that nine residual blocks multiply it by
up to 2^9, and it spreads the relevance of a mean evenly, also over inactive positions. zennit's canonizers know the
blocks of torchvision's ResNet by class. `FunctionCanonizer` reads the `forward` of any block with `torch.fx` and
replaces such calls by modules. `sequential_batch_norms` finds which batch norm really follows which convolution
(zennit's `SequentialMergeBatchNorm` uses the order of registration, not the order of calls).

A `forward` that cannot be read (control flow that depends on the data, several arguments) is left unchanged and listed,
so that the caller can report it.
"""

from __future__ import annotations

import inspect
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from zennit.canonizers import AttributeCanonizer
from zennit.layer import Sum
from zennit.types import BatchNorm, Linear

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_MEANS = {torch.mean, "mean"}
_POOLINGS = {
    functional.avg_pool1d,
    functional.avg_pool2d,
    functional.avg_pool3d,
    functional.adaptive_avg_pool1d,
    functional.adaptive_avg_pool2d,
    functional.adaptive_avg_pool3d,
}
_PRODUCTS = {operator.mul, operator.imul, operator.matmul, torch.mul, torch.matmul, torch.bmm, "mul", "mul_", "matmul"}
_NONLINEAR = {
    functional.relu6: "relu6",
    functional.gelu: "gelu",
    functional.silu: "silu",
    functional.hardswish: "hardswish",
    functional.softmax: "softmax",
    torch.softmax: "softmax",
    "softmax": "softmax",
    functional.layer_norm: "layer_norm",
    functional.scaled_dot_product_attention: "scaled_dot_product_attention",
}
# Left out at the end of a model (`final_activation.py`).
_SOFTMAX = {target for target, name in _NONLINEAR.items() if name == "softmax"}
# Methods and attributes of a tensor that return numbers.
_NUMBERS = {"size", "dim", "numel", "shape", "ndim"}


class Averaging(nn.Module):
    """A mean that was a function call; zennit's `Norm` rule applies to it as to average pooling."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, data: Tensor) -> Tensor:
        """Average `data`."""
        return self.function(data)


class FunctionCanonizer(AttributeCanonizer):
    """Replaces every addition of two tensors and every mean in a `forward` by a `Sum` or `Averaging` module.

    The model's outputs do not change. Modules of `torch.nn` are not read.
    """

    def __init__(self) -> None:
        super().__init__(_rewritten)

    def copy(self) -> FunctionCanonizer:
        """Return a canonizer of the same kind; zennit needs one per module."""
        return FunctionCanonizer()


def sequential_batch_norms(model: nn.Module) -> list[tuple[list[str], str]]:
    """Find the batch norms whose input is the output of one linear or convolutional module.

    Parameters
    ----------
    model
        Any module.

    Returns
    -------
    list of (list of str, str)
        Names in the format of `zennit.canonizers.NamedMergeBatchNorm`: the linear module, the batch norm.
    """
    modules = dict(model.named_modules())
    pairs = []
    for prefix, module in modules.items():
        for linear, norm in _following(module):
            names = [f"{prefix}.{name}" if prefix else name for name in (linear, norm)]
            # a shared module is listed under its first name only
            if isinstance(modules.get(names[0]), Linear) and isinstance(modules.get(names[1]), BatchNorm):
                pairs.append(([names[0]], names[1]))
    return pairs


def rewritten_functions(model: nn.Module) -> Counter:
    """Count the function calls that `FunctionCanonizer` replaces by modules: `"sum"` and `"mean"`."""
    found: Counter = Counter()
    for _, graph in _graphs(model):
        tensors = _tensors(graph)
        for node in graph.nodes:
            found["sum"] += _joins(node, _ADDITIONS, tensors)
            found["mean"] += _is_mean(node, tensors)
    return +found


def functions_left_to_gradient(model: nn.Module) -> list[str]:
    """List the functions in the forwards of `model` that no rule covers: products of tensors, non-linear functions.

    A softmax whose result the model returns is not among them.

    Returns
    -------
    list of str
        Sorted names such as `"product of tensors"` and `"gelu"`.
    """
    found = set()
    end = module_at_the_end(model)
    for module, graph in _graphs(model):
        tensors = _tensors(graph)
        left_out = _returned(graph) if module is end else None
        for node in graph.nodes:
            if _joins(node, _PRODUCTS, tensors):
                found.add("product of tensors")
            elif node is left_out and node.target in _SOFTMAX:
                continue
            elif node.op in ("call_function", "call_method") and node.target in _NONLINEAR:
                found.add(_NONLINEAR[node.target])
    return sorted(found)


def module_at_the_end(model: nn.Module) -> nn.Module:
    """Follow the forwards of `model` to the module that computes its output, as far as they can be read."""
    while True:
        if type(model).forward is nn.Sequential.forward and len(model):
            model = model[-1]
        elif (called := _returned(_read(model) if _is_custom(model) else None)) and called.op == "call_module":
            model = model.get_submodule(called.target)
        else:
            return model


def _returned(graph: fx.Graph | None) -> fx.Node | None:
    """Return the call whose result a `forward` returns."""
    result = None if graph is None else next(reversed(graph.nodes)).args[0]
    return result if isinstance(result, fx.Node) else None


def unreadable_blocks(model: nn.Module) -> list[str]:
    """List the class names of the modules of `model` whose `forward` cannot be read, sorted."""
    return sorted({type(module).__name__ for module in model.modules() if _is_custom(module) and _read(module) is None})


class _Tracer(fx.Tracer):
    """Reads one `forward`; the modules called in it stay calls, so that hooks on them still work."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _is_custom(module: nn.Module) -> bool:
    """Whether `module` has its own `forward` that calls other modules."""
    return any(True for _ in module.children()) and not type(module).forward.__module__.startswith("torch.nn.")


def _read(module: nn.Module) -> fx.Graph | None:
    """Return the calls in the `forward` of `module`, or None if they depend on more than one tensor."""
    arguments = list(inspect.signature(type(module).forward).parameters.values())[1:]
    if len(arguments) != 1 or arguments[0].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        return None
    try:
        return _Tracer().trace(module)
    except Exception:
        # Arbitrary code runs on a stand-in for a tensor here: whatever it raises, it cannot be read.
        return None


def _graphs(model: nn.Module) -> Iterator[tuple[nn.Module, fx.Graph]]:
    for module in model.modules():
        if _is_custom(module) and (graph := _read(module)) is not None:
            yield module, graph


def _following(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of pairs of children of `module` where only the second reads the output of the first."""
    if type(module).forward is nn.Sequential.forward:
        yield from pairwise(module._modules)
    elif _is_custom(module) and (graph := _read(module)) is not None:
        calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        for node in graph.nodes:
            if node.op == "call_module" and len(node.args) == 1 and isinstance(node.args[0], fx.Node):
                before = node.args[0]
                alone = before.op == "call_module" and len(before.users) == 1 and calls[before.target] == 1
                if alone and calls[node.target] == 1:
                    yield before.target, node.target


def _tensors(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes of `graph` that depend on values of its input, unlike sizes and constants."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        is_size = (node.op == "call_method" and node.target in _NUMBERS) or (
            node.target is getattr and node.args[1] in _NUMBERS
        )
        if node.op == "placeholder" or (not is_size and any(item in found for item in node.all_input_nodes)):
            found.add(node)
    return found


def _joins(node: fx.Node, targets: set, tensors: set[fx.Node]) -> bool:
    """Whether `node` is a call of one of `targets` on two tensors that both depend on the input."""
    return (
        node.op in ("call_function", "call_method")
        and node.target in targets
        and len(node.args) == 2
        and not node.kwargs
        and all(item in tensors for item in node.args)
    )


def _is_mean(node: fx.Node, tensors: set[fx.Node]) -> bool:
    """Whether `node` averages a tensor over axes or windows that do not depend on other nodes."""
    return (
        node.op in ("call_function", "call_method")
        and node.target in _MEANS | _POOLINGS
        and len(node.all_input_nodes) == 1
        and node.all_input_nodes[0] in tensors
        and node.args[:1] == (node.all_input_nodes[0],)
        and (len(node.args) > 1 or bool(node.kwargs))
    )


def _stacked(left: Tensor, right: Tensor) -> Tensor:
    return torch.stack(torch.broadcast_tensors(left, right), dim=-1)


def _average(data: Tensor, function: Callable[..., Tensor], args: tuple, kwargs: dict) -> Tensor:
    return function(data, *args, **kwargs)


def _rewritten(name: str, module: nn.Module) -> dict[str, object] | None:
    """Attributes that replace the `forward` of `module`, as `AttributeCanonizer` takes them; None to keep it."""
    graph = _read(module) if _is_custom(module) else None
    if graph is None:
        return None
    tensors = _tensors(graph)
    added: dict[str, nn.Module] = {}
    for node in list(graph.nodes):
        if _joins(node, _ADDITIONS, tensors):
            key, part = f"canonizer_sum_{len(added)}", Sum()
        elif _is_mean(node, tensors):
            function = node.target if callable(node.target) else getattr(torch, node.target)
            part = Averaging(partial(_average, function=function, args=node.args[1:], kwargs=dict(node.kwargs)))
            key = f"canonizer_mean_{len(added)}"
        else:
            continue
        added[key] = part
        with graph.inserting_before(node):
            data = graph.call_function(_stacked, node.args) if isinstance(part, Sum) else node.args[0]
            call = graph.create_node("call_module", key, (data,))
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    if not added:
        return None
    for key, part in added.items():
        setattr(module, key, part)
    return {"forward": fx.GraphModule(module, graph).forward, **added}
