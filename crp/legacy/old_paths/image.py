"""zennit-crp's pictures: references with their conditional heatmaps, cropped, masked and in a grid."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from crp.compat import OLD_NAMES, import_zennit_safely, old_names

import_zennit_safely()

import matplotlib.pyplot as plt  # noqa: E402  (after the workaround, as the next two lines)
import zennit.image  # noqa: E402
from torchvision.transforms.functional import gaussian_blur  # noqa: E402

from crp.errors import InputError  # noqa: E402
from crp.helper import max_norm  # noqa: E402

__all__ = [*OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)


def get_crop_range(heatmap: Tensor, crop_th: float) -> tuple[int, int, int, int]:
    """Find the smallest box around all values above a threshold.

    Parameters
    ----------
    heatmap
        `[H, W]`.
    crop_th
        The threshold.

    Returns
    -------
    tuple of int
        First row, last row, first column, last column; the last ones are exclusive. The whole heatmap, if no value is
        above the threshold.
    """
    bright = heatmap > crop_th
    if not bright.any():
        return 0, heatmap.shape[0], 0, heatmap.shape[1]
    rows, columns = torch.where(bright)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


@torch.no_grad()
def vis_opaque_img(
    data_batch: Tensor, heatmaps: Tensor, rf: bool = False, alpha: float = 0.3, vis_th: float = 0.2,
    crop_th: float = 0.1, kernel_size: int = 19,
) -> list[Image.Image]:
    """Draw samples, darkened where their heatmap is low.

    Parameters
    ----------
    data_batch
        Samples `[N, c, H, W]` before preprocessing.
    heatmaps
        `[N, H, W]`.
    rf
        Whether to crop to the region where the smoothed heatmap is above `crop_th`.
    alpha
        Brightness, 0 to 1, where the smoothed heatmap is not above `vis_th`.
    vis_th, crop_th
        Fractions of the smoothed heatmap's maximum, at least 0 and below 1.
    kernel_size
        Side of the Gaussian kernel. It is reduced for small heatmaps.

    Raises
    ------
    InputError
        If a number is out of its range.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"'alpha' must be between 0 and 1, given {alpha}.")
    for name, threshold in (("vis_th", vis_th), ("crop_th", crop_th)):
        if not 0 <= threshold < 1:
            raise InputError(f"'{name}' must be at least 0 and below 1, given {threshold}.")
    pictures = []
    for sample, heatmap in zip(data_batch, heatmaps, strict=True):
        smooth = _smoothed(heatmap, kernel_size)
        window = _window(smooth, crop_th, rf)
        bright = (smooth > vis_th)[window]
        sample = sample[..., *window]
        pictures.append(imgify(torch.where(bright, sample, sample * alpha)))
    return pictures


@torch.no_grad()
def vis_img_heatmap(
    data_batch: Tensor, heatmaps: Tensor, rf: bool = False, crop_th: float = 0.1, kernel_size: int = 19,
    cmap: Any = "bwr", vmin: float | None = None, vmax: float | None = None, symmetric: bool = True,
) -> tuple[list[Image.Image], list[Image.Image]]:
    """Draw samples and their heatmaps; arguments as in `vis_opaque_img` and `imgify`.

    Each heatmap has its own colour scale; give `vmin` and `vmax` for a common one.
    """
    pictures, maps = [], []
    for sample, heatmap in zip(data_batch, heatmaps, strict=True):
        window = _window(_smoothed(heatmap, kernel_size), crop_th, True) if rf else (slice(None), slice(None))
        pictures.append(imgify(sample[..., *window]))
        maps.append(imgify(heatmap[window], cmap=cmap, vmin=vmin, vmax=vmax, symmetric=symmetric))
    return pictures, maps


def imgify(
    image: Image.Image | Tensor | np.ndarray, cmap: Any = "bwr", vmin: float | None = None, vmax: float | None = None,
    symmetric: bool = False, level: float = 1.0, grid: bool | tuple[int, int] = False, gridfill: Any = None,
    resize: int | None = None, padding: bool = False,
) -> Image.Image:
    """Make a PIL picture, from numbers with `zennit.image.imgify`.

    Parameters
    ----------
    image
        A picture, `[H, W]` numbers, or numbers with 1 or 3 channels in the first or last axis. A constant array is
        drawn in the middle colour of the map.
    cmap, vmin, vmax, symmetric, level, grid, gridfill
        As in zennit.
    resize
        Length of the longer side.
    padding
        Whether to pad it to a square with transparent pixels.

    Raises
    ------
    TypeError
        If `image` is of another type.
    """
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    if isinstance(image, np.ndarray):
        scaled = image.dtype != np.uint8 and not grid and vmin is None and vmax is None
        if scaled and image.min() == image.max() and not (symmetric and image.any()):
            vmin, vmax = float(image.min()) - 1, float(image.min()) + 1
        image = zennit.image.imgify(
            image, cmap=cmap, vmin=vmin, vmax=vmax, symmetric=symmetric, level=level, grid=grid, gridfill=gridfill
        )
        if image.mode == "P":
            # zennit passes an array to Pillow, and Pillow 13 can neither show nor save such a palette
            image.putpalette(zennit.image.palette(cmap, level).tobytes())
    elif not isinstance(image, Image.Image):
        raise TypeError(f"'image' must be a PIL picture, a tensor or an array, given {type(image).__name__}.")
    if resize:
        longest = max(image.size)
        image = image.resize([max(1, int(side * resize / longest)) for side in image.size], Image.Resampling.NEAREST)
    if padding:
        side = resize or max(image.size)
        square = Image.new("RGBA", (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    return image


def plot_grid(
    ref_c: Mapping[Any, Any], cmap_dim: int | None = 1, cmap: Any = "bwr", vmin: float | None = None,
    vmax: float | None = None, symmetric: bool = True, resize: int | None = None, padding: bool = True,
    figsize: tuple[float, float] | None = (6, 6),
) -> None:
    """Show references in a pyplot figure, with a row (or two) for each concept. Save it with `plt.savefig`.

    Parameters
    ----------
    ref_c
        The result of `FeatureVisualization.get_max_reference`: by concept a list of pictures (or of numbers for
        `imgify`), or a tuple of lists. Rows may differ in length.
    cmap_dim
        Which list of the tuple is drawn with the colour map, 0 or 1; None for neither.
    cmap, vmin, vmax, symmetric, resize, padding
        As in `imgify`.
    figsize
        Inches.

    Raises
    ------
    InputError
        If `cmap_dim` has another value, or there are no references.
    """
    if cmap_dim not in (0, 1, None):
        raise InputError(f"'cmap_dim' must be 0, 1 or None, given {cmap_dim}.")
    rows = {concept: value if isinstance(value, tuple) else (value,) for concept, value in ref_c.items()}
    if not rows or not all(isinstance(images, Iterable) for value in rows.values() for images in value):
        raise InputError("'ref_c' must map concepts to lists of pictures, or to tuples of lists.")
    figure = plt.figure(figsize=figsize)
    columns = max(len(images) for value in rows.values() for images in value)
    outer = figure.add_gridspec(len(rows), 1, wspace=0, hspace=0.2)
    for (concept, value), place in zip(rows.items(), outer, strict=True):
        inner = place.subgridspec(len(value), columns, wspace=0, hspace=0.1)
        for row, images in enumerate(value):
            colours = {"cmap": cmap, "vmin": vmin, "vmax": vmax, "symmetric": symmetric} if row == cmap_dim else {}
            for column, image in enumerate(images):
                axes = figure.add_subplot(inner[row, column])
                axes.imshow(imgify(image, resize=resize, padding=padding, **colours))
                axes.set_xticks([])
                axes.set_yticks([])
                if row == column == 0:
                    axes.set_ylabel(concept)
    outer.tight_layout(figure)
    with warnings.catch_warnings():
        # without a window there is nothing to show
        warnings.filterwarnings("ignore", ".*non-interactive")
        figure.show()


def _smoothed(heatmap: Tensor, kernel_size: int) -> Tensor:
    """Blur `[H, W]` and divide by the maximum."""
    # the blur reflects the heatmap at its border, by half the kernel
    height, width = (min(kernel_size, 2 * side - 1) for side in heatmap.shape)
    return max_norm(gaussian_blur(heatmap[None], kernel_size=[width, height])[0])


def _window(smooth: Tensor, crop_th: float, crop: bool) -> tuple[slice, slice]:
    if not crop:
        return slice(None), slice(None)
    top, bottom, left, right = get_crop_range(smooth, crop_th)
    return slice(top, bottom), slice(left, right)
