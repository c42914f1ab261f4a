"""Data for a page's script, packed as bytes in text: base64 of zlib, which `unpacking.js` reads."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np


def packed(content: bytes) -> str:
    """Pack bytes."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def packed_json(content: Any) -> str:
    """Pack plain values, as JSON."""
    return packed(json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii"))


def packed_floats(values: np.ndarray) -> str:
    """Pack an array as float32."""
    return packed(values.astype("<f4").tobytes())


def packed_steps(steps: np.ndarray, filled: np.ndarray) -> str:
    """Pack int16 values, of which only some are `filled` (bool, of the same shape); all others are 0.

    First a bit for each value, least significant bit first, which says whether it is filled. Then, of those that are,
    the high bytes, then the low bytes: high bytes of neighbours are alike, low bytes are noise.
    """
    values = steps[filled].astype(np.int16)
    parts = np.packbits(filled, bitorder="little"), (values >> 8).astype(np.int8), (values & 255).astype(np.uint8)
    return packed(b"".join(part.tobytes() for part in parts))
