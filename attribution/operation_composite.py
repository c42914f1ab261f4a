"""Rules for modules and for functions, chosen by a description of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from zennit.core import Composite, Hook
from zennit.layer import Sum
from zennit.rules import Epsilon, Flat, Gamma, Norm, Pass, ZPlus
from zennit.types import Convolution

from crp.attribution.observation import LinearCall, is_depthwise
from crp.attribution.rules import ZPlusOrMinus
from crp.attribution.scaling import reads_one_value

# Element by element, without parameters; zennit counts attention, softmax and GLU among the activations, too.
_ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardtanh,
    nn.Hardswish, nn.Hardshrink, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanhshrink, nn.Threshold,
)
# Those whose rule for ranking is that of the function, gradient times input (`functions.elementary.smooth`).
_SMOOTH = (
    nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Softplus, nn.Softsign, nn.Tanhshrink,
    nn.Softshrink,
)
# Those whose rule depends on what reads them: that of the function (`functions.elementary.limited`) is put on.
LIMITED = (nn.ReLU6, nn.Hardtanh, nn.Threshold)
_LINEAR = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)
_AVERAGES = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)


# Functions whose derivative is their rule for ranking, and the modules that call them.
DERIVED = {
    "layer_norm", "group_norm", "rms_norm", "normalize", "local_response_norm", "scaled_dot_product_attention",
    "softmax", "sigmoid", "expit", "hardsigmoid", "tanh", "erf", "softsign", "gelu", "silu", "mish", "elu", "selu",
    "celu", "glu", "softplus", "softshrink", "tanhshrink", "hardswish", "lstm", "gru", "rnn_tanh", "norm",
    "multi_head_attention_forward", "linalg_norm", "linalg_vector_norm", "var", "std", "rsqrt", "sqrt", "exp",
    "lstm_cell", "gru_cell", "logsumexp", "cosine_similarity", "cdist", "prod", "cumprod",
}  # fmt: skip
DERIVED_MODULES = (
    *_SMOOTH, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm, nn.MultiheadAttention, nn.Softmax,
    nn.Sigmoid, nn.Hardsigmoid, nn.Tanh, nn.GLU, nn.RNNBase,
)  # fmt: skip


@dataclass(frozen=True)
class NetworkKind:
    """What the choice of rules depends on.

    Attributes
    ----------
    first
        Name of the module that calls the first linear operation.
    last
        Name of the module that calls the last one.
    convolutional
        Whether there are convolutions.
    depthwise
        Whether there are depthwise convolutions.
    convolutional_classifier
        Whether the last linear operation is a convolution.
    inner
        Whether there are convolutions between the first linear operation and the classifier.
    """

    first: str
    last: str
    convolutional: bool
    depthwise: bool
    convolutional_classifier: bool
    inner: bool


def network_kind(calls: Sequence[LinearCall]) -> NetworkKind:
    """Describe a network by its linear operations, in the order of calls."""
    return NetworkKind(
        first=calls[0].module,
        last=calls[-1].module,
        convolutional=any(call.kind is not nn.Linear for call in calls),
        depthwise=any(call.depthwise for call in calls),
        convolutional_classifier=calls[-1].kind is not nn.Linear,
        inner=any(call.kind is not nn.Linear for call in calls[1:-1]),
    )


class OperationComposite(Composite):
    """A zennit composite whose rules are also put on functions, as they run (`functions.table.RULES`).

    Batch norms are merged where the first forward pass shows that this is exact. Modules that are not exactly of
    torch's own classes (subclasses, parametrized weights) have no rule of their own: the functions they call have.

    Parameters
    ----------
    network
        What the rules are chosen by.
    ranking
        Other rules for relevance that ends at layers (`purposes.Purpose`); None if these rules serve all purposes.
    """

    def __init__(self, network: NetworkKind, ranking: OperationComposite | None = None) -> None:
        self.network = network
        self.ranking = ranking
        convolutions = dict(zero_params="bias") if self._without_biases else {}
        self._flat, self._plus, self._epsilon = Flat(**convolutions), ZPlus(**convolutions), Epsilon()
        self._few_inputs = ZPlusOrMinus(**convolutions)
        # with its bias: one value near zero is no measure of an output that the bias alone makes large
        self._one_input = ZPlusOrMinus() if network.depthwise else self._epsilon
        self._norm, self._pass = Norm(), Pass()
        super().__init__(module_map=self._mapping)

    def decided(self, calls: Sequence[LinearCall]) -> OperationComposite:
        """Return the composite of the same kind for the operations that a forward pass ran."""
        return type(self)(network_kind(calls), None if self.ranking is None else self.ranking.decided(calls))

    @property
    def _without_biases(self) -> bool:
        return self.network.depthwise

    def linear_rule(self, module: nn.Module, name: str, first: bool) -> Hook:
        """Return the rule of a linear operation.

        Parameters
        ----------
        module
            The module, or one that computes the function; a `Scaling` for a batch norm that is not merged.
        name
            Name of the module, or of the one that calls the function.
        first
            Whether no linear operation runs before.
        """
        network = self.network
        if not network.convolutional:
            return self._epsilon
        if name == network.last and network.convolutional_classifier:
            return self._epsilon
        if first:
            return self._flat
        if reads_one_value(module):
            return self._one_input
        if not isinstance(module, Convolution):
            return self._epsilon
        return self._few_inputs if is_depthwise(module) else self._plus

    def _mapping(self, context: dict, name: str, module: nn.Module) -> Hook | None:
        kind = type(module)
        if kind in _LINEAR and "weight" in module._parameters:
            return self.linear_rule(module, name, name == self.network.first)
        if kind in _AVERAGES or kind is Sum:
            return self._norm
        return self._pass if kind in _ELEMENTWISE else None


class GammaComposite(OperationComposite):
    """Gamma with 0.25 at convolutions that have z+ otherwise (Montavon et al., 2019).

    What speaks against a unit counts, too, so that less relevance goes to the surroundings of what it shows. Networks
    with depthwise convolutions keep z+: gamma was not measured there.
    """

    def __init__(self, network: NetworkKind, ranking: OperationComposite | None = None) -> None:
        super().__init__(network, ranking)
        if not network.depthwise:
            self._plus = Gamma(0.25)


class RankingComposite(OperationComposite):
    """Epsilon at all linear operations: relevance keeps the sign and the size of what each concept contributes.

    On nets of ReLUs and max pooling it is gradient times activation, up to the stabiliser (Ancona et al., "Towards
    better understanding of gradient-based attribution methods for deep neural networks", 2018). Functions follow their
    rules for ranking, so that it is the same in nets with norms, attention, gates and smooth activations, but for the
    squares in norms (`norm_squares.py`).
    """

    def linear_rule(self, module: nn.Module, name: str, first: bool) -> Hook:
        """Return the rule of a linear operation."""
        return self._epsilon

    def _mapping(self, context: dict, name: str, module: nn.Module) -> Hook | None:
        return None if type(module) in _SMOOTH else super()._mapping(context, name, module)
