"""Which layers of a model show its concepts best, as one pass of the model shows: `observed_layers`.

Nothing is read from names of classes. A layer is on the *trunk* if every path from the input to the output passes
through its output, as the outputs of residual blocks are. Layers of the trunk whose positions have the same grid form a
*stage*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from crp.attribution.copies import replicate
from crp.attribution.in_place import made_out_of_place
from crp.attribution.isolation import isolated_pass, outside_inference
from crp.attribution.layouts import UnknownLayout, layouts_followed
from crp.attribution.observation import observe
from crp.concepts import Layout

MOST = 4


@dataclass(frozen=True)
class ObservedLayer:
    """A layer in one pass.

    Attributes
    ----------
    name
        The module's name.
    kind
        The name of its class.
    layout
        Shape and axes of its output; None if this is not a tensor of samples.
    trunk
        Whether every path from the input to the output passes through its output.
    chosen
        Whether it is one of the layers to mine by default.
    obstacle
        Why it cannot be mined; empty if it can.
    """

    name: str
    kind: str
    layout: Layout | None
    trunk: bool
    chosen: bool = False
    obstacle: str = ""


@isolated_pass()
def observed_layers(model: nn.Module, data: Tensor) -> list[ObservedLayer]:
    """List the layers that one pass calls, in the order in which they return, and choose some.

    Chosen are, of the layers of the trunk with linear or convolutional operations, the last one of each of the last
    four stages. If there is a single stage (a ViT), four evenly spaced blocks of it are chosen, among them the last
    one; if no layer has several positions (a fully connected net), the last four layers. The layer that computes the
    classes is not chosen.

    Parameters
    ----------
    model
        Any model that `RelevanceFlow` explains. It is not changed.
    data
        Model input, `[1, c, *S]`.

    Raises
    ------
    ModelError
        If the model cannot run on the data.
    """
    plain = replicate(model)
    weight = next((value for value in plain.parameters() if value.is_floating_point()), data)
    data = outside_inference(data).detach().to(weight)
    found, trunk = _passed(model, data)
    usable = [name for name, (_, obstacle) in found.items() if not obstacle]
    with layouts_followed(plain, data, usable) as layouts:
        linear = [call.module for call in observe(plain, data).linear]
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    layers = []
    for name, (_, obstacle) in sorted(found.items(), key=lambda item: item[1][0]):
        layout = layouts.get(name)
        if isinstance(layout, UnknownLayout):
            layout, obstacle = None, f"its channels are not known: {layout.reason}"
        layers.append(ObservedLayer(name, kinds[name], layout, name in trunk, obstacle=obstacle))
    chosen = _choice([layer for layer in layers if layer.trunk and not layer.obstacle], linear)
    return [replace(layer, chosen=layer.name in chosen) for layer in layers]


def _passed(model: nn.Module, data: Tensor) -> tuple[dict[str, tuple[int, str]], set[str]]:
    """Run a copy: by layer, when it returned last and why it cannot be mined; and the names of the trunk's layers."""
    copy = replicate(model)
    made_out_of_place(copy)  # each call needs an output of its own
    copy.requires_grad_(False)  # the graph has only what depends on the input
    calls: Counter[str] = Counter()
    found: dict[str, tuple[int, str]] = {}
    ends: dict[object, list[str]] = {}

    def record(layer: str) -> Callable[[nn.Module, tuple, object], object]:
        def hook(module: nn.Module, args: tuple, output: object) -> object:
            calls[layer] += 1
            obstacle = ""
            if not isinstance(output, Tensor):
                obstacle = f"its output is a {type(output).__name__}"
            elif output.grad_fn is None or output.ndim < 2 or len(output) != len(data):
                obstacle = "its output does not depend on the sample"
            elif calls[layer] > 1:
                obstacle = "it is called more than once"
            found[layer] = (sum(calls.values()), obstacle)
            if obstacle:
                return output
            # a graph node of its own, because a block returns the tensor of the module before it
            output = output.view_as(output)
            ends.setdefault(output.grad_fn, []).append(layer)
            return output

        return hook

    for name, module in copy.named_modules():
        if name:
            module.register_forward_hook(record(name))
    output = copy(data.clone().requires_grad_())
    nodes = _passed_by_all(output.grad_fn)
    return found, {name for node in nodes for name in ends.get(node, [])}


def _passed_by_all(last: object) -> list[object]:
    """List the nodes of autograd's graph that every path from `last` to the input passes."""
    order, waiting, seen = [], [(last, False)], set()
    while waiting:
        node, finished = waiting.pop()
        if finished:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(below, False) for below, _ in node.next_functions if below is not None]
    order.reverse()
    place = {node: index for index, node in enumerate(order)}
    passed, farthest = [], 0
    for index, node in enumerate(order):
        if farthest <= index:  # no edge leads past this node
            passed.append(node)
        farthest = max([farthest, *(place[below] for below, _ in node.next_functions if below is not None)])
    return passed


def _choice(layers: Sequence[ObservedLayer], linear: Sequence[str]) -> set[str]:
    """Choose some of the trunk's layers, which are in the order in which they return."""

    def computes(layer: ObservedLayer) -> bool:
        inside = [module for module in linear if _is_in(module, layer.name)]
        return bool(inside) and not _is_in(linear[-1], layer.name)

    able = [layer for layer in layers if computes(layer)]
    if not any(layer.layout.positions > 1 for layer in able):
        innermost = [layer for layer in able if not any(_is_in(other.name, layer.name + ".") for other in able)]
        return {layer.name for layer in innermost[-MOST:]}
    able = [layer for layer in able if layer.layout.positions > 1]
    able = [layer for layer in able if layer.layout.channels > 1] or able  # one channel leaves nothing to compare
    able = [layer for layer in able if layer.layout.grid] or able  # positions with a place rather than moved ones
    # a layer whose children lie on several grids holds several stages, and is none
    grids = {
        layer.name: {child.layout.grid for child in able if _parent(child.name) == layer.name} for layer in able
    }
    able = [layer for layer in able if len(grids[layer.name]) <= 1]
    # a part of a block that goes over to the next grid is not the end of its stage
    able = [
        layer
        for layer in able
        if all(block.layout.grid == layer.layout.grid for block in able if _is_in(layer.name, block.name))
    ]
    stages = {layer.layout.grid: layer for layer in able}
    if len(stages) > 1:
        return {layer.name for layer in list(stages.values())[-MOST:]}
    (last,) = stages.values()
    blocks = _blocks(last, able)
    count = min(MOST, len(blocks))
    return {blocks[(place + 1) * len(blocks) // count - 1].name for place in range(count)}


def _blocks(last: ObservedLayer, able: Sequence[ObservedLayer]) -> list[ObservedLayer]:
    """List the blocks of a stage: what its last layer is made of, or the layers beside that."""

    def children(place: str) -> list[ObservedLayer]:
        return [layer for layer in able if _parent(layer.name) == place and layer.layout.shape == last.layout.shape]

    blocks = children(_parent(last.name))
    while inside := children(blocks[-1].name):
        blocks = inside
        if len(blocks) > 1:
            break
    return blocks


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _is_in(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place.removesuffix('.')}.")
