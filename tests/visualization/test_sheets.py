"""Patches in one picture: every cell is its patch, stretched; every veil has a border of its own."""

import numpy as np

from crp.values import Patch
from crp.visualization import encoding as images
from crp.visualization import sheets


def patch(value, height, width):
    picture = np.full((height, width, 3), value, dtype=np.uint8)
    heatmap = np.zeros((height, width), dtype=np.float32)
    heatmap[: height // 2] = 1
    return Patch(0, 1.0, 0, (), (0, 0, height, width), picture, heatmap)


ROWS = [[patch(40, 20, 60), patch(80, 96, 96)], [], [patch(120, 7, 3)]]


def cell(sheet, row, column, side):
    return sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]


def test_patches_fill_their_cells():
    found = sheets.patch_sheet(ROWS)
    assert found.shape == (3 * sheets.SIDE, 2 * sheets.SIDE, 3)
    expected = {(0, 0): 40, (0, 1): 80, (2, 0): 120, (1, 0): 238, (1, 1): 238, (2, 1): 238}
    for (row, column), value in expected.items():
        assert (cell(found, row, column, sheets.SIDE) == value).all()


def test_modes_without_patches_at_the_end_take_no_row():
    assert sheets.sheet_of([[patch(0, 2, 2)], [], []]) == sheets.Sheet(1, 1)
    assert sheets.sheet_of(ROWS) == sheets.Sheet(3, 2)
    assert sheets.sheet_of([[], []]) == sheets.Sheet(0, 0)
    assert sheets.sheet_of(ROWS).style == "--r:3;--k:2"


def test_veils_hide_what_has_no_relevance_and_end_in_a_border():
    side = sheets.VEIL + 2 * sheets.BORDER
    found = sheets.veil_sheet(ROWS)
    assert found.shape == (3 * side, 2 * side, 2)
    veil = cell(found, 0, 1, side)[..., 1]
    expected = (images.veil(ROWS[0][1].heatmap) * 15).round() * 17
    inner = slice(sheets.BORDER, -sheets.BORDER)
    assert np.array_equal(veil[inner, inner], expected)
    assert veil[1].max() == 0  # where the heatmap is full nothing is hidden
    assert veil[-2].min() == 255
    assert np.array_equal(veil[0], veil[1])
    assert np.array_equal(veil[:, -1], veil[:, -2])
    assert cell(found, 1, 0, side).max() == 0


def test_glimpses_are_squares_row_by_row():
    patches = {5: patch(10, 9, 5), 0: patch(20, 9, 5), 7: patch(30, 9, 5)}
    found, glimpses = sheets.glimpse_sheet(patches, side=4, columns=2)
    assert found.shape == (8, 8, 3)
    assert [int(cell(found, row, column, 4)[0, 0, 0]) for row in (0, 1) for column in (0, 1)] == [10, 20, 30, 238]
    assert [glimpses.style(concept) for concept in (5, 0, 7, 1)] == [
        "--r:2;--n:2;--y:0;--x:0", "--r:2;--n:2;--y:0;--x:1", "--r:2;--n:2;--y:1;--x:0", ""
    ]  # fmt: skip
    assert glimpses.numbers(8) == {"rows": 2, "columns": 2, "concepts": [5, 0, 7]}
    assert sheets.Glimpses((0, 1, 2), 2).numbers(3) == {"rows": 2, "columns": 2, "concepts": None}
    none, glimpses = sheets.glimpse_sheet({}, side=4, columns=2)
    assert (none.shape, glimpses.sheet) == ((4, 8, 3), sheets.Sheet(1, 2))
