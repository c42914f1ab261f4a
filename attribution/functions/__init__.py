"""LRP rules for function calls, which have no module that a rule could be put on.

==================  ==================================================================================
`function_calls`    `FunctionRules`, which sees every call; `Call`, what a rule is given
`table`             `RULES`: which rule each function has
`elementary`        sums, products, element-wise functions, and gates
`normalization`     layer, group, instance and batch norms as linear maps with a constant denominator
`attention_rules`   attention with constant weights; `torch.nn.MultiheadAttention` opened
`linear_layers`     linear and convolutional functions, under the composite's rules
==================  ==================================================================================
"""
