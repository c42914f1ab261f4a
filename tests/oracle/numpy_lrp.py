r"""Layer-wise relevance propagation written from the papers in numpy: slow, float64, and meant to be obviously right.

A linear or convolutional layer is written out as a dense matrix, so that every rule is the textbook sum over
contributions :math:`c_{ji} = w_{ji} a_i` of input `i` to output `j`, with
:math:`z_j = \sum_i c_{ji} + b_j`. A net is a list of `Node`s in the order of computation.

The rules: epsilon and alpha-beta of Bach et al. 2015 (z+ is alpha 1, beta 0), w-square and z-box of Montavon et al.
2017 (deep Taylor decomposition), flat of Lapuschkin et al. 2019, gamma of Montavon et al. 2019 in the
form of Andéol et al. 2021 for inputs of either sign. Biases count as one more input, whose relevance is lost; flat and
z-box leave them out. Every denominator is moved away from zero by 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

STABILISER = 1e-6


@dataclass(frozen=True)
class Dense:
    """A layer written out: weights `[J, I]`, which of them exist `[J, I]`, biases `[J]`."""

    weights: ndarray
    support: ndarray
    bias: ndarray


# Dense layer, input values [I], relevance of the output [J] -> relevance of the input [I].
Rule = Callable[[Dense, ndarray, ndarray], ndarray]


def stabilised(values: ndarray) -> ndarray:
    """Values moved away from zero; zero counts as positive."""
    return values + np.where(values >= 0, STABILISER, -STABILISER)


def _shared(contributions: ndarray, bias: ndarray, relevance: ndarray) -> ndarray:
    """Relevance of each output shared out in proportion to contributions `[J, I]`; the bias takes its part."""
    return (contributions / stabilised(contributions.sum(1) + bias)[:, None] * relevance[:, None]).sum(0)


def epsilon(layer: Dense, values: ndarray, relevance: ndarray) -> ndarray:
    """R_i = sum_j c_ji / (z_j + epsilon sign z_j) R_j."""
    return _shared(layer.weights * values, layer.bias, relevance)


def alpha_beta(alpha: float, beta: float) -> Rule:
    """R_i = sum_j (alpha c+_ji / z+_j - beta c-_ji / z-_j) R_j."""

    def rule(layer: Dense, values: ndarray, relevance: ndarray) -> ndarray:
        contributions = layer.weights * values
        positive = _shared(np.maximum(contributions, 0), np.maximum(layer.bias, 0), relevance)
        negative = _shared(np.minimum(contributions, 0), np.minimum(layer.bias, 0), relevance)
        return alpha * positive - beta * negative

    return rule


def gamma(factor: float) -> Rule:
    """Contributions of the sign of the output count 1 + gamma times; an output of zero passes nothing on."""

    def rule(layer: Dense, values: ndarray, relevance: ndarray) -> ndarray:
        contributions = layer.weights * values
        outputs = contributions.sum(1) + layer.bias
        favoured = np.where(
            outputs[:, None] > 0,
            contributions + factor * np.maximum(contributions, 0),
            contributions + factor * np.minimum(contributions, 0),
        )
        bias = np.where(
            outputs > 0,
            layer.bias + factor * np.maximum(layer.bias, 0),
            layer.bias + factor * np.minimum(layer.bias, 0),
        )
        return _shared(favoured, bias, np.where(outputs == 0, 0, relevance))

    return rule


def flat(layer: Dense, values: ndarray, relevance: ndarray) -> ndarray:
    """Every input that an output sees takes the same part."""
    return _shared(layer.support.astype(float), np.zeros_like(layer.bias), relevance)


def w_square(layer: Dense, values: ndarray, relevance: ndarray) -> ndarray:
    """R_i = sum_j w_ji^2 / (sum_i w_ji^2 + b_j^2) R_j."""
    return _shared(layer.weights**2, layer.bias**2, relevance)


def z_box(low: float, high: float) -> Rule:
    """R_i = sum_j (c_ji - w+_ji low - w-_ji high) / (sum over i) R_j."""

    def rule(layer: Dense, values: ndarray, relevance: ndarray) -> ndarray:
        weights = layer.weights
        contributions = weights * values - np.maximum(weights, 0) * low - np.minimum(weights, 0) * high
        return _shared(contributions, np.zeros_like(layer.bias), relevance)

    return rule


@dataclass(frozen=True)
class Node:
    """One step of a net: `kind` is conv, linear, relu, pool, flatten or sum; `inputs` are names, `input` the first."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    weight: ndarray | None = None
    bias: ndarray | None = None
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class _Layer:
    """A conv or linear node written out, the shape of its output, and its rule."""

    dense: Dense
    shape: tuple[int, ...]
    rule: Rule


def written_out(node: Node, shape: Sequence[int]) -> tuple[Dense, tuple[int, ...]]:
    """The dense form of a conv or linear node for inputs of `shape`, and the shape of its output."""
    if node.kind == "linear":
        return Dense(node.weight, np.ones(node.weight.shape, bool), node.bias), node.bias.shape
    channels, height, width = shape
    outputs, _, size_y, size_x = node.weight.shape
    rows = (height + 2 * node.padding - size_y) // node.stride + 1
    columns = (width + 2 * node.padding - size_x) // node.stride + 1
    weights = np.zeros((outputs, rows, columns, channels, height, width))
    support = np.zeros(weights.shape, bool)
    for row in range(rows):
        for column in range(columns):
            for offset_y in range(size_y):
                for offset_x in range(size_x):
                    y = row * node.stride + offset_y - node.padding
                    x = column * node.stride + offset_x - node.padding
                    if 0 <= y < height and 0 <= x < width:
                        weights[:, row, column, :, y, x] = node.weight[:, :, offset_y, offset_x]
                        support[:, row, column, :, y, x] = True
    size = outputs * rows * columns
    dense = Dense(weights.reshape(size, -1), support.reshape(size, -1), np.repeat(node.bias, rows * columns))
    return dense, (outputs, rows, columns)


def _forward(node: Node, inputs: Sequence[ndarray], layer: _Layer | None) -> ndarray:
    """Output of a node for one sample."""
    values = inputs[0]
    if node.kind in ("conv", "linear"):
        return (layer.dense.weights @ values.ravel() + layer.dense.bias).reshape(layer.shape)
    if node.kind == "relu":
        return np.maximum(values, 0)
    if node.kind == "pool":
        return _windows(values).max(-1)
    if node.kind == "flatten":
        return values.ravel()
    return inputs[0] + inputs[1]


def _windows(values: ndarray) -> ndarray:
    """Windows of two by two, `[C, H/2, W/2, 4]`."""
    channels, height, width = values.shape
    split = values.reshape(channels, height // 2, 2, width // 2, 2)
    return split.transpose(0, 1, 3, 2, 4).reshape(channels, height // 2, width // 2, 4)


def _backward(node: Node, inputs: Sequence[ndarray], relevance: ndarray, layer: _Layer | None) -> list[ndarray]:
    """Relevance of each input of a node for one sample."""
    values = inputs[0]
    if node.kind in ("conv", "linear"):
        return [layer.rule(layer.dense, values.ravel(), relevance.ravel()).reshape(values.shape)]
    if node.kind == "pool":
        # the first of the largest takes all
        winners = np.eye(4)[_windows(values).argmax(-1)] * relevance[..., None]
        channels, rows, columns, _ = winners.shape
        split = winners.reshape(channels, rows, columns, 2, 2).transpose(0, 1, 3, 2, 4)
        return [split.reshape(values.shape)]
    if node.kind == "sum":
        total = stabilised(inputs[0] + inputs[1])
        return [part / total * relevance for part in inputs]
    return [relevance.reshape(values.shape)]


class NumpyNet:
    """A net and one rule for each of its conv and linear nodes.

    Parameters
    ----------
    nodes
        In the order of computation; the last one gives the prediction.
    rules
        By name of the node.
    """

    def __init__(self, nodes: Sequence[Node], rules: Mapping[str, Rule]) -> None:
        self.nodes = nodes
        self.rules = rules
        self._layers: dict[str, _Layer] = {}

    def forward(self, sample: ndarray) -> dict[str, ndarray]:
        """Outputs of all nodes for one sample `[c, H, W]`, by name, with `input`."""
        values = {"input": sample}
        for node in self.nodes:
            if node.name in self.rules and node.name not in self._layers:
                dense, shape = written_out(node, values[node.inputs[0]].shape)
                self._layers[node.name] = _Layer(dense, shape, self.rules[node.name])
            values[node.name] = _forward(node, [values[name] for name in node.inputs], self._layers.get(node.name))
        return values

    def explain(
        self,
        sample: ndarray,
        target: int,
        masks: Mapping[str, Sequence[int]],
        *,
        exclude_parallel: bool = True,
    ) -> dict[str, ndarray]:
        """Relevance that arrives at each node's output (before its own mask) and at `input`.

        Parameters
        ----------
        sample
            `[c, H, W]`.
        target
            Class whose logit is the relevance that starts.
        masks
            Channels whose relevance may pass, by node.
        exclude_parallel
            Below a masked node only what came through it flows on; otherwise all that reaches a node does.

        Returns
        -------
        dict of str to ndarray
        """
        values = self.forward(sample)
        arriving = {name: np.zeros_like(value) for name, value in values.items()}
        last = self.nodes[-1].name
        arriving[last][target] = values[last][target]
        for node in reversed(self.nodes):
            relevance = arriving[node.name]
            if node.name in masks:
                kept = np.zeros_like(relevance)
                kept[list(masks[node.name])] = relevance[list(masks[node.name])]
                relevance = kept
                if exclude_parallel:
                    # what is already on its way to lower nodes has not come through here
                    position = self.nodes.index(node)
                    for lower in ["input", *(other.name for other in self.nodes[:position])]:
                        arriving[lower] = np.zeros_like(arriving[lower])
            parts = _backward(node, [values[name] for name in node.inputs], relevance, self._layers.get(node.name))
            for name, part in zip(node.inputs, parts, strict=True):
                arriving[name] = arriving[name] + part
        return arriving
