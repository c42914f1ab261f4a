r"""The rule of each function. To add an operation, add its name to a row of `RULES`; others are `other_function`.

==================  ===================================================================================================
`as_autograd`       reshaping and selecting; max pooling
`converting`        the same for conversions; those to fewer digits than the input has are named
`detaching`         nothing passes; where the values are read is named
`gradient_hook`     left out: relevance is no gradient
`joining`           the same for what joins data with constants, whose part is absorbed
`filling`           the same for what fills up with zeros, or constants
`assignment`        the same for what is written into a tensor
`elementwise`       one tensor, element by element: relevance passes unchanged (zennit's `Pass`)
`smooth`            the same for maps; for ranking, gradient times input
`limited`           unchanged, except where a limit holds whatever the data are, and for ranking where it only scales
`addition`          in proportion to the summands (zennit's `Norm` on `Sum`); a constant summand absorbs its part, but
                    for maps not if it shifts the model's input (`input_values.py`)
`accumulation`      the same for what is added up at places of another tensor
`linear_map`        linear in one tensor: :math:`R_x = x \odot J^T (R / z)`, the epsilon rule
`product`           with a constant: unchanged; for maps, with a gate: all to the signal, of two signals: half and half;
                    for ranking, all to each factor
`quotient`          all to the numerator; for ranking, also to the denominator with the opposite sign
`matrix_product`    of two tensors of the data, as `product`; with a constant, as `linear_map`
`only_gate`         a constant factor or divisor; for ranking, gradient times input; where relevance for maps reaches
                    it, it passes by the gradient and is named
`sampling`          a `linear_map` of what is sampled
`addcmul`, `glu` …  the functions of which they are made (`composed.py`)
`normalization`     for maps, the denominator is a constant, and what remains is a `linear_map`; for ranking, gradient
                    times input, and `norm_squares.py`
`attention`         for maps, attention weights are constants: a `linear_map` of the values (the conserving variant; Ali
                    et al., "XAI for Transformers: Better Explanations through Conservative Propagation", 2022); for
                    ranking, gradient times input
`fourier`           a `linear_map` between real and complex numbers (`complex_numbers.py`, also for what follows it)
`linear_layer`      the composite's rule for that kind of layer
`lstm`, `gru` …     the steps, with gates as in `product`; packed sequences, too (`recurrent.py`)
==================  ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crp.attribution.functions.attention_rules import attention, multi_head_attention
from crp.attribution.functions.complex_numbers import FOURIER, fourier
from crp.attribution.functions.composed import addcdiv, addcmul, added_product, glu, lerp, spread_and_mean
from crp.attribution.functions.elementary import (
    accumulation,
    addition,
    bounded,
    bounded_of_both_signs,
    elementwise,
    linear_map,
    matrix_product,
    only_gate,
    product,
    quotient,
    sampling,
    smooth,
)
from crp.attribution.functions.function_calls import Call
from crp.attribution.functions.limits import clamp, hardtanh, limited_on_one_side, relu6, sign
from crp.attribution.functions.linear_layers import LAYERS, linear_layer
from crp.attribution.functions.normalization import batch_norm, group_norm, instance_norm, layer_norm, vector_norm
from crp.attribution.functions.overwriting import assignment
from crp.attribution.functions.recurrent import (
    gru,
    gru_cell,
    lstm,
    lstm_cell,
    packing,
    rnn_relu,
    rnn_tanh,
    unpacking,
)
from crp.attribution.functions.selecting import (
    as_autograd,
    broadcasting,
    converting,
    detaching,
    filling,
    gradient_hook,
    joining,
)

RULES: dict[str, Callable[[Call], Any]] = {}
for rule, names in (
    (
        as_autograd,
        # shape and place
        "reshape reshape_as view view_as flatten unflatten ravel squeeze unsqueeze permute transpose swapaxes swapdims "
        "movedim moveaxis T mT H mH t adjoint contiguous clone cpu cuda "
        "expand expand_as broadcast_to repeat repeat_interleave tile flip fliplr flipud roll rot90 narrow "
        "select index_select take take_along_dim gather getitem diagonal "
        "split split_with_sizes tensor_split chunk unbind hsplit vsplit dsplit unsafe_chunk unsafe_split as_strided "
        "pixel_shuffle pixel_unshuffle channel_shuffle requires_grad_ "
        "squeeze_ unsqueeze_ transpose_ swapaxes_ swapdims_ t_ as_strided_ "
        # choosing
        "amax amin topk sort cummax "
        "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
        "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout positive requires_grad "
        "real view_as_complex _base grad",
    ),
    (detaching, "data detach detach_"),
    (gradient_hook, "register_hook"),
    (converting, "to type float double half bfloat16 type_as"),
    (broadcasting, "broadcast_tensors"),
    (
        joining,
        "cat concat concatenate stack hstack vstack dstack column_stack block_diag where masked_fill index_copy "
        "scatter max min maximum minimum complex",
    ),
    (filling, "pad unfold im2col diag diag_embed tril triu max_unpool1d max_unpool2d max_unpool3d"),
    (assignment, "setitem copy_ index_put_ zero_ fill_"),
    (
        elementwise,
        "relu leaky_relu prelu rrelu hardshrink abs absolute nan_to_num",
    ),
    (
        smooth,
        "gelu silu mish elu selu celu softplus tanhshrink hardswish log_sigmoid exp expm1 log log1p log2 log10 sqrt "
        "rsqrt square pow reciprocal sin cos float_power softshrink",
    ),
    (bounded, "sigmoid expit hardsigmoid"),
    (relu6, "relu6"),
    (bounded_of_both_signs, "tanh erf softsign"),
    (hardtanh, "hardtanh"),
    (clamp, "clamp clip"),
    (limited_on_one_side, "clamp_min clamp_max threshold _threshold"),
    (sign, "sign sgn"),
    (only_gate, "softmax log_softmax softmin norm linalg_norm linalg_vector_norm var std"),
    (addition, "add sub subtract rsub"),
    (
        linear_map,
        "neg negative sum nansum mean nanmean cumsum diff avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
        "adaptive_avg_pool2d adaptive_avg_pool3d interpolate affine_grid fold col2im",
    ),
    (accumulation, "index_add scatter_add"),
    (fourier, FOURIER),
    (sampling, "grid_sample roi_align"),
    (addcmul, "addcmul"),
    (addcdiv, "addcdiv"),
    (lerp, "lerp"),
    (glu, "glu"),
    (spread_and_mean, "var_mean std_mean"),
    (product, "mul multiply"),
    (quotient, "div divide true_divide rdiv"),
    (matrix_product, "matmul mm bmm mv dot inner einsum tensordot bilinear rmatmul"),
    (added_product, "addmm addmv addr addbmm baddbmm"),
    (layer_norm, "layer_norm"),
    (group_norm, "group_norm"),
    (instance_norm, "instance_norm"),
    (batch_norm, "batch_norm"),
    (vector_norm, "rms_norm normalize local_response_norm"),
    (attention, "scaled_dot_product_attention"),
    (multi_head_attention, "multi_head_attention_forward"),
    (linear_layer, " ".join(LAYERS)),
    (lstm, "lstm"),
    (gru, "gru"),
    (lstm_cell, "lstm_cell"),
    (gru_cell, "gru_cell"),
    (rnn_tanh, "rnn_tanh"),
    (rnn_relu, "rnn_relu"),
    (packing, "_pack_padded_sequence"),
    (unpacking, "_pad_packed_sequence"),
):
    RULES.update(dict.fromkeys(names.split(), rule))
