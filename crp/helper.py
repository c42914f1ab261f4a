"""zennit-crp's `crp.helper`, handed on from `crp.legacy`."""

from crp.compat import handed_on
from crp.legacy.helper import abs_norm, find_files, get_layer_names, get_output_shapes, load_receptive_field, max_norm

_STORED = ("load_maximization", "load_statistics", "load_stat_targets")

__all__ = [
    "abs_norm",
    "find_files",
    "get_layer_names",
    "get_output_shapes",
    "load_receptive_field",
    "max_norm",
    *_STORED,
]

__getattr__ = handed_on(__name__, dict.fromkeys(_STORED, "crp.legacy.stored"))
