"""Tables of cells: how exact they are, and that a difference is held as what is left of it."""

import dataclasses
import json

import numpy as np
import pytest

import example_explanations as examples
from crp.visualization.page.explanation_page import render
from crp.visualization.page.stored_tables import expected_steps, in_steps
from page_source import Page, floats, steps_of


def linear(explanation):
    """Its views, with the map of the difference as the difference of the two other maps, up to rounding."""
    one, other, difference = explanation, *explanation.beside
    layers = []
    for a, b, own in zip(one.layers, other.layers, difference.layers, strict=True):
        table = a.concept_map.table - b.concept_map.table
        table *= 1 + np.random.default_rng(0).normal(scale=1e-6, size=table.shape).astype(np.float32)
        layers.append(dataclasses.replace(own, concept_map=dataclasses.replace(own.concept_map, table=table)))
    return dataclasses.replace(one, beside=(other, dataclasses.replace(difference, layers=tuple(layers))))


def test_a_share_of_a_region_is_exact_to_a_step_and_all_of_a_cell_to_half_of_one():
    """Also where nearly all of a cell lies in concepts that hold less than a step each."""
    random = np.random.default_rng(1)
    table = (random.normal(size=(3, 4, 4000)) ** 5).astype(np.float32)
    table[..., 2] = 0
    table[0, 0, 1:] *= 1e-7
    table[1, 1] = 0
    found = in_steps(table)
    exact = table.reshape(12, -1).T.astype(np.float64)
    values = found.steps * found.scale.astype(np.float64)
    totals = np.abs(exact).sum(0)
    for _ in range(100):
        cells = random.random(12) < 0.4
        error = np.abs(values[:, cells].sum(1) - exact[:, cells].sum(1))
        assert (error <= (found.scale[cells].sum(dtype=np.float64)) * 1.001).all()
    assert (found.scale <= np.where(np.abs(exact).max(0) * 2 < totals, totals / 65535, totals / 32766)).all()
    assert (np.abs(np.abs(values).sum(0) - totals) <= 0.501 * found.scale).all()
    assert (found.filled == (exact != 0)).all()
    assert not found.steps[~found.filled].any()


def test_one_concept_can_hold_a_whole_cell():
    found = in_steps(np.array([[0.0, -3.7e-20, 0.0], [0.0, 0.0, 5e9]], np.float32))
    assert found.steps.tolist() == [[0, 0], [-32767, 0], [0, 32767]]
    assert found.steps[1, 0] * found.scale[0] == pytest.approx(-3.7e-20, rel=1e-4)


@pytest.mark.parametrize("made", [linear, lambda explanation: explanation])
def test_a_difference_is_held_as_what_is_left_of_it(made):
    """Also where it is no difference of the others at all: then more is left, and nothing is lost."""
    value = made(examples.beside(examples.explanation(patches=0), patches=0))
    views = json.loads(Page(render(value)).scripts["atlas-cells"])
    for place, layer in enumerate(views[2]):
        assert layer["difference"] == [0, 1]
        one, other = (in_steps(view.layers[place].concept_map.table) for view in (value, value.beside[0]))
        own = in_steps(value.beside[1].layers[place].concept_map.table)
        assert (floats(layer["scale"]) == own.scale).all()
        left = steps_of(layer)
        again = (left.astype(np.int64) + expected_steps(one, other, own.scale) + 32768) % 65536 - 32768
        assert (again == own.steps).all()
        if made is linear:
            assert np.abs(left).max() <= 3
            assert len(layer["table"]) < 0.4 * len(views[0][place]["table"])
    assert all("difference" not in layer for view in views[:2] for layer in view)


def test_expected_steps_are_clipped_where_a_difference_nearly_cancels():
    one = in_steps(np.array([[1.0], [0.5]], np.float32))
    assert expected_steps(one, in_steps(np.array([[-1.0], [0.5]], np.float32)), np.float32([1e-9])).tolist() == [
        [32767, 0]
    ]
    # a concept without relevance in the difference
    assert expected_steps(one, one, np.float32([0.0])).tolist() == [[0, 0]]
