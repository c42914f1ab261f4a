"""Data for a page's script, packed as bytes in text: zlib in base 85, which `unpacking.js` reads.

Base 85 takes five characters for four bytes, where base64 takes four for three. Its characters are those of RFC 1924
(`base64.b85encode`), but for the three that HTML would escape.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

_PLAIN, _WRITTEN = str.maketrans("&<>", ",.:"), str.maketrans(",.:", "&<>")


def in_text(content: bytes) -> str:
    """Write bytes in base 85."""
    return base64.b85encode(content).decode("ascii").translate(_PLAIN)


def packed(content: bytes) -> str:
    """Pack bytes."""
    return in_text(zlib.compress(content, 9))


def packed_json(content: Any) -> str:
    """Pack plain values, as JSON."""
    return packed(json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii"))


def unpacked_json(text: str) -> Any:
    """Read what `packed_json` has packed."""
    return json.loads(zlib.decompress(base64.b85decode(text.translate(_WRITTEN))))


def packed_floats(values: np.ndarray) -> str:
    """Pack an array as float32."""
    return packed(values.astype("<f4").tobytes())


def packed_steps(steps: np.ndarray, filled: np.ndarray) -> str:
    """Pack int16 values, of which only some are `filled` (bool); all others are 0.

    Magnitudes are Golomb-Rice codes, with the `k` for each row that makes its codes shortest. One after another, all
    bits with the least significant one first:

    - a bit for each value, which says whether it is filled;
    - a bit for each filled value, which says whether it is negative;
    - `k` of each row, a byte;
    - for each filled value `magnitude >> k` ones, a zero, and the lowest `k` bits of its magnitude.

    Parameters
    ----------
    steps, filled
        `[rows, values]`.
    """
    counts = filled.sum(1)
    sizes = np.abs(steps.astype(np.int32)) * filled
    width = np.argmin([counts * k + (sizes >> k).sum(1) for k in range(16)], axis=0).astype(np.uint8)
    values, each = sizes[filled], np.repeat(width, counts).astype(np.int64)
    stops = np.cumsum((values >> each) + 1 + each) - each - 1
    codes = np.ones(stops[-1] + 1 + each[-1] if len(stops) else 0, bool)
    codes[stops] = False
    for bit in range(int(width.max(initial=0))):
        held = each > bit
        codes[stops[held] + 1 + bit] = values[held] >> bit & 1
    parts = filled, steps[filled] < 0, np.unpackbits(width, bitorder="little"), codes
    return packed(b"".join(np.packbits(part, bitorder="little").tobytes() for part in parts))
