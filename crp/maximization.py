"""zennit-crp's `crp.maximization`, handed on from `crp.legacy`."""

from crp.legacy.maximization import Maximization

__all__ = ["Maximization"]
