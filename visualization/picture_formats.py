"""Pictures as bytes, and as addresses that hold these bytes: what is kept in which format.

================  ====================================================================================================
photos            WebP: two thirds of the bytes of a JPEG that looks the same
patches           AVIF, many in one picture: four fifths of the bytes of as many WebP files that look the same
single crops      AVIF with the colours of all pixels, and PNG for tiny ones
whole pictures    AVIF, for zooming into one that pages show reduced
heatmaps          AVIF of ink and opacity, without the picture below. Opacity is compressed as a picture of its own, so
                  that it takes a third of the bytes of a JPEG of heatmap and picture, and is nearer to the values
veils             WebP without loss
small pictures    PNG: any other format smears pixels
================  ====================================================================================================

All browsers have read both since March 2023 (Safari 16.4 was the last). Where Pillow cannot write one, it is a JPEG or
PNG.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, features

from crp.visualization.encoding import LEVELS, ROOT, SMALL_SIDE, fitted, inks, scaled, tinted

_WEBP, _AVIF = features.check("webp"), features.check("avif")
# Of files that hold a photo, veils, and patches.
SUFFIX = ".webp" if _WEBP else ".jpg"
VEILS_SUFFIX = "-veils.webp" if _WEBP else ".png"
PATCHES_SUFFIX = ".avif" if _AVIF else SUFFIX
EMPTY_LEVEL = LEVELS // 2
# What a quality of WebP and of AVIF corresponds to in JPEG.
_WEBP_TO_JPEG, _AVIF_TO_JPEG = 10, 48
# Crops up to this side are kept without loss: their files are small whatever the format is.
_TINY_SIDE = 32


def photo(picture: np.ndarray, quality: int) -> bytes:
    """Compress a picture, uint8 [h, w, 3].

    quality: of the WebP, 0 to 90.
    """
    if _WEBP:
        # slower methods save some percent, and take long for large pictures; the slowest takes twice as long for 3 %
        method = 5 if max(picture.shape) <= SMALL_SIDE else 4
        return _bytes(Image.fromarray(np.ascontiguousarray(picture)), "WEBP", quality=quality, method=method)
    return jpeg(picture, quality + _WEBP_TO_JPEG)


def patches_photo(sheet: np.ndarray) -> bytes:
    """Compress a sheet of patches, uint8 [h, w, 3], with the error and structural similarity of WebP at quality 50."""
    if not _AVIF:
        return photo(sheet, quality=50)
    return _avif(Image.fromarray(sheet), quality=54)


def patches_uri(sheet: np.ndarray) -> str:
    """Encode `patches_photo(sheet)` as an address."""
    return avif_uri(patches_photo(sheet))


def whole_photo(picture: np.ndarray, most: int) -> tuple[bytes, tuple[int, int]]:
    """Compress a picture, uint8 [h, w, 3], in at most `most` bytes: whole if it fits, else shrunk until it does.

    Returns
    -------
    tuple
        The file, whose suffix is `PATCHES_SUFFIX`, and the height and width of the picture in it. Of one that had to be
        shrunk, they are less than a twentieth of the picture's own below what would fit.
    """
    longer = max(picture.shape[:2])
    content = _whole(picture)
    if len(content) <= most:
        return content, picture.shape[:2]
    found, fits, large = b"", 0, longer
    side = int(longer * (most / len(content)) ** 0.5)
    while not found or large - fits > longer / 20:
        drawn = fitted(picture, side)
        content = _whole(drawn)
        if len(content) <= most:
            found, shape, fits = content, drawn.shape[:2], side
        else:
            large = side
        side = (fits + large) // 2
    return found, shape


def _whole(picture: np.ndarray) -> bytes:
    return _avif(Image.fromarray(np.ascontiguousarray(picture)), quality=60) if _AVIF else photo(picture, quality=75)


def avif_uri(content: bytes) -> str:
    """Encode what `whole_photo` or `patches_photo` has made as "data:image/avif;base64,..."."""
    return _uri("avif" if _AVIF else "webp" if _WEBP else "jpeg", content)


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """Compress a picture, uint8 [h, w, 3], as JPEG."""
    return _bytes(Image.fromarray(np.ascontiguousarray(picture)), "JPEG", quality=quality, optimize=True)


def photo_uri(picture: np.ndarray, quality: int) -> str:
    """Encode `photo(picture, quality)` as "data:image/webp;base64,..."."""
    return _uri("webp" if _WEBP else "jpeg", photo(picture, quality))


def picture_uri(picture: np.ndarray, *, side: int, quality: int) -> str:
    """Encode a picture, uint8 [h, w, 3], shrunk to at most `side`; small ones stay as they are, without loss."""
    if max(picture.shape[:2]) <= SMALL_SIDE:
        return png_uri(picture)
    return photo_uri(fitted(picture, side), quality)


def crop_uri(picture: np.ndarray, *, side: int, quality: int) -> str:
    """Encode a crop, uint8 [h, w, 3], shrunk to at most `side`, with the colours of single pixels.

    WebP and AVIF at their defaults keep a colour for each four pixels. Pages enlarge crops, so that bright edges of
    another colour would show. Tiny ones are PNG, larger ones an AVIF of all colours.
    """
    drawn = fitted(picture, side)
    if max(drawn.shape[:2]) <= _TINY_SIDE or not _AVIF:
        return png_uri(drawn)
    return _uri("avif", _avif(Image.fromarray(np.ascontiguousarray(drawn)), quality, subsampling="4:4:4"))


def tinted_uri(picture: np.ndarray, heatmap: np.ndarray, *, side: int, quality: int) -> str:
    """Encode `tinted(picture, heatmap)`, to be shown on a ground of `faded(picture)`, possibly at a lower opacity.

    Parameters
    ----------
    picture
        uint8 [h, w, 3]. It is part of what is encoded only where Pillow cannot write AVIF, in the size of the heatmap.
    heatmap
        float [H, W]. Small ones are PNG, exact: 255 levels of two colours.
    side
        Large ones are shrunk to at most that.
    quality
        Of the AVIF, 0 to 50.
    """
    return heatmaps_uri(drawn_heatmap(picture, heatmap, side=side), quality)


def drawn_heatmap(picture: np.ndarray, heatmap: np.ndarray, *, side: int, limit: float | None = None) -> np.ndarray:
    """Draw what `tinted_uri` encodes, so that several can be put beside each other.

    Parameters
    ----------
    picture, heatmap, side
        As there.
    limit
        The heatmap's `colour_limit`, if it is known.

    Returns
    -------
    np.ndarray
        uint8: levels [h, w] of a small heatmap, of which `EMPTY_LEVEL` is none; ink and opacity [h, w, 4]; a picture
        [h, w, 3] where Pillow cannot write AVIF.
    """
    if max(heatmap.shape) <= SMALL_SIDE:
        return _levels(heatmap, limit)
    if not _AVIF:
        return fitted(tinted(fitted(picture, max(heatmap.shape)), heatmap, limit), side)
    drawn = Image.fromarray(_inked(heatmap, limit))
    drawn.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(drawn)


def heatmaps_uri(drawn: np.ndarray, quality: int) -> str:
    """Encode what `drawn_heatmap` returns, one or several in one array."""
    if drawn.ndim == 2:
        return _levels_uri(drawn)
    if drawn.shape[2] == 3:
        return _uri("jpeg", jpeg(drawn, quality + _AVIF_TO_JPEG))
    return _uri("avif", _avif_of_ink(drawn, quality))


def inked_uri(heatmap: np.ndarray, quality: int) -> str:
    """Encode ink and opacity of a heatmap, float [H, W], at its full size; `quality` as in `tinted_uri`.

    Small ones, and all where Pillow cannot write AVIF, are PNG, exact: 255 levels of two colours.
    """
    if max(heatmap.shape) <= SMALL_SIDE or not _AVIF:
        return _levels_uri(_levels(heatmap))
    return _uri("avif", _avif_of_ink(_inked(heatmap), quality))


def veils_uri(sheet: np.ndarray) -> str:
    """Encode `veils_picture(sheet)` as "data:image/webp;base64,..."."""
    return _uri("webp" if _WEBP else "png", veils_picture(sheet))


def veils_picture(sheet: np.ndarray) -> bytes:
    """Compress a sheet of veils, uint8 [h, w, 2] of grey and alpha, without loss."""
    if not _WEBP:
        return _bytes(Image.fromarray(sheet), "PNG", optimize=True)
    black, alpha = sheet[..., 0], sheet[..., 1]
    return _bytes(Image.fromarray(np.dstack([black, black, black, alpha])), "WEBP", lossless=True)


def png_uri(array: np.ndarray) -> str:
    """Encode uint8 [h, w], [h, w, 3] or [h, w, 4] as "data:image/png;base64,...", without loss."""
    return _uri("png", _bytes(Image.fromarray(np.ascontiguousarray(array)), "PNG", optimize=True))


def _inked(heatmap: np.ndarray, limit: float | None = None) -> np.ndarray:
    values = scaled(heatmap, limit, ROOT)
    drawn = np.empty((*heatmap.shape, 4), np.uint8)
    drawn[..., :3], drawn[..., 3] = inks(values), (np.abs(values) * 255).round()
    return drawn


def _avif(drawn: Image.Image, quality: int, **options: str) -> bytes:
    return _bytes(drawn, "AVIF", quality=quality, speed=8, max_threads=1, **options)


def _avif_of_ink(drawn: np.ndarray, quality: int) -> bytes:
    """Compress ink and opacity, uint8 [h, w, 4].

    With equal errors, it takes a fifth less bytes than as a photo is compressed (`_avif`), and a third of the time.
    """
    return _bytes(Image.fromarray(drawn), "AVIF", quality=quality, speed=9, max_threads=1, autotiling=False, **_even())


@cache
def _even() -> dict[str, Any]:
    """Options with which all blocks have one quality, if Pillow's encoder knows them; libaom changes it by the eye."""
    options = {"advanced": {"deltaq-mode": "0"}}
    try:
        Image.new("RGBA", (8, 8)).save(io.BytesIO(), "AVIF", **options)
    except (ValueError, RuntimeError, OSError):  # another encoder than libaom
        return {}
    return options


def _levels(heatmap: np.ndarray, limit: float | None = None) -> np.ndarray:
    return np.rint((scaled(heatmap, limit, ROOT) + 1) / 2 * (LEVELS - 1)).astype(np.uint8)


def _levels_uri(levels: np.ndarray) -> str:
    image = Image.fromarray(levels)
    image.putpalette(inks(np.arange(LEVELS) - EMPTY_LEVEL).tobytes())
    opacity = np.abs(np.linspace(-1, 1, LEVELS)) * 255
    return _uri("png", _bytes(image, "PNG", optimize=True, transparency=opacity.round().astype(np.uint8).tobytes()))


def _bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
