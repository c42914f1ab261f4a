"""Axes whose contents are placed in inches, and the sizes that all figures for papers share."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crp.visualization.figures import artists

# Inches, as in the templates of IEEE; other journals differ by a few millimetres.
ONE_COLUMN, TWO_COLUMNS = 3.5, 7.16

# Points.
FONT, SMALL = 7.0, 6.0
# Inches: a line of text, the space between parts, a colour bar with its labels.
LINE, GAP, BAR = 0.16, 0.12, 0.36


class Panel:
    """Axes whose contents are placed in inches from the upper left corner."""

    def __init__(self, ax: Axes | None, width: float, height: float, label: str) -> None:
        if ax is None:
            ax = Figure(figsize=(width, height), facecolor="white").add_axes((0, 0, 1, 1), label=label)
        ax.set_axis_off()
        self.axes = ax
        self.width, self.height = size_of(ax)

    def place(self, left: float, top: float, width: float, height: float, label: str) -> Axes:
        """Add axes at (left, top), in inches from the upper left corner."""
        bottom = self.height - top - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.axes.inset_axes(box, label=label)

    def write(self, left: float, top: float, text: str, **style: object) -> None:
        """Write one line of text at (left, top), in inches from the upper left corner."""
        artists.write(
            self.axes, left / self.width, 1 - top / self.height, text, **{"fontsize": SMALL + 0.5} | style
        )


def size_of(ax: Axes) -> tuple[float, float]:
    """Return width and height of axes, in inches."""
    ax.apply_aspect()
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def width_of(ax: Axes | None, width: float) -> float:
    """Return the width in inches of given axes; `width` if there are none."""
    return width if ax is None else size_of(ax)[0]
