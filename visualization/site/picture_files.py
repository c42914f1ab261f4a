"""Pictures that pages of a site share, as files: WebP where Pillow can write it, JPEG otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, features

from crp.visualization.page_files import replace_file

# WebP has two thirds of the bytes of a JPEG that looks the same.
SUFFIX = ".webp" if features.check("webp") else ".jpg"


def save_picture(path: Path, picture: np.ndarray, *, webp: int, jpeg: int) -> None:
    """Write a picture, uint8 `[H, W, 3]`, to a path that ends with `SUFFIX`.

    Parameters
    ----------
    path
        The file.
    picture
        The picture.
    webp, jpeg
        Quality, 1 to 100, in either format.
    """
    kind, quality = ("WEBP", webp) if SUFFIX == ".webp" else ("JPEG", jpeg)
    replace_file(path, lambda file: Image.fromarray(picture).save(file, kind, quality=quality))
