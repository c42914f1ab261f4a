"""zennit-crp's `crp.statistics`, handed on from `crp.legacy`."""

from crp.legacy.statistics import Statistics

__all__ = ["Statistics"]
