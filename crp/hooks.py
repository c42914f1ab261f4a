"""zennit-crp's `crp.hooks`, handed on from `crp.legacy`."""

from crp.legacy.hooks import FeatVisHook, MaskHook

__all__ = ["FeatVisHook", "MaskHook"]
