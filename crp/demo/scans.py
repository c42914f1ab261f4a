"""Small volumes like scans of a head, in which the class is a planted lesion."""

from __future__ import annotations

import numpy as np

from crp.media.medium import Medium

from .planted import Planted

SHAPE = (24, 32, 32)
# Millimetres from one value to the next, along slices, rows and columns.
SPACING = (3.0, 2.0, 2.0)
NOISE = 0.04


class Scans(Planted):
    """Volumes of an ellipsoid with smooth structure and noise, float32 `[1, 24, 32, 32]`.

    In the class "bright lesion" a bright ball lies inside, in the class "ring lesion" a bright shell with a dark core.

    Examples
    --------
    >>> sample = Scans("test", 3).sample(2)
    >>> sample.values.shape, sample.label, 50 < int(sample.mask.sum()) < 1000
    ((1, 24, 32, 32), 2, True)
    """

    class_names = ("healthy", "bright lesion", "ring lesion")
    preprocessing = Medium.volume(SPACING, unit="mm")
    noise = NOISE

    def _made(self, rng: np.random.Generator, label: int) -> tuple[np.ndarray, np.ndarray]:
        axes = [np.arange(size) - (size - 1) / 2 for size in SHAPE]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"))
        radii = np.array([rng.uniform(9.5, 11), rng.uniform(13, 15), rng.uniform(11, 13)])
        depth = np.sqrt(((grid / radii[:, None, None, None]) ** 2).sum(0))
        values = 0.5 / (1 + np.exp((depth - 1) * 18))
        # a rim like that of a skull, and smooth structure inside
        values += 0.35 * np.exp(-(((depth - 1) / 0.06) ** 2) / 2)
        for _ in range(6):
            waves = rng.normal(0, 0.28, 3)
            phase = np.tensordot(waves, grid, 1) + rng.uniform(0, 2 * np.pi)
            values += 0.03 * np.sin(phase) * (depth < 1)
        planted = np.zeros(SHAPE)
        if label:
            direction = rng.normal(size=3)
            place = 0.5 * rng.uniform(0, 1) ** (1 / 3) * radii * direction / np.linalg.norm(direction)
            distance = np.sqrt(((grid - place[:, None, None, None]) ** 2).sum(0))
            radius = rng.uniform(3.2, 4.2) if label == 1 else rng.uniform(3.6, 4.4)
            if label == 1:
                planted = 0.55 / (1 + np.exp((distance - radius) * 3))
            else:
                planted = 0.45 * np.exp(-(((distance - radius) / 0.8) ** 2) / 2)
                planted -= 0.35 * np.exp(-((distance / 1.8) ** 2) / 2)
        return (values + planted + rng.normal(0, NOISE, SHAPE))[None], planted[None]
