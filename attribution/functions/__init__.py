"""LRP rules for function calls, which have no module that a rule could be put on.

==================  ==================================================================================
`function_calls`    `FunctionRules`, which sees every call; `Call`, what a rule is given
`table`             `RULES`: which rule each function has
`operation`         a call in the graph, with its rule for each purpose
`derivatives`       rules made of a function's own derivative
`elementary`        sums, products, element-wise functions, and gates
`normalization`     layer, group, instance and batch norms
`attention_rules`   attention; `torch.nn.MultiheadAttention` opened
`linear_layers`     linear and convolutional functions, under the composite's rules
==================  ==================================================================================
"""
