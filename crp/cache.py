"""zennit-crp's `crp.cache`, handed on from `crp.legacy`."""

from crp.legacy.cache import Cache, ImageCache

__all__ = ["Cache", "ImageCache"]
