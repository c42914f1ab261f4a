"""One colour a concept: stable, told apart, and never mistaken for that of a sign."""

import dataclasses

import numpy as np
import pytest

import example_explanations as examples
from crp.visualization import colours as palette
from crp.visualization import encoding as images

# Machado, Oliveira and Fernandes 2009, severity 1, in linear light.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
SIGNS = (palette.FOR, palette.FOR_TEXT, palette.AGAINST, palette.AGAINST_TEXT)


def channels(code):
    return [int(code[i : i + 2], 16) for i in (1, 3, 5)]


def lab(colours, vision):
    """CIE L*a*b* (D65) of sRGB colours as seen with a colour vision: uint8 [n, 3] -> float [n, 3]."""
    encoded = np.asarray(colours) / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ np.array(vision).T, 0, 1)
    xyz = (
        light
        @ np.array(
            [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
        ).T
    )
    xyz = xyz / [0.95047, 1, 1.08883]
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], axis=-1)


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_concepts_are_told_apart_from_each_other_and_from_the_signs(vision):
    """By at least 20 (CIE 1976): neighbours in a legend differ by 2.3 at the threshold of seeing."""
    own = lab([channels(code) for code in palette.COLOURS], VISION[vision])
    inks = np.array([images.FOR_INK, images.AGAINST_INK])
    signs = lab([*map(channels, (*SIGNS, palette.OTHER)), *inks], VISION[vision])
    between = np.linalg.norm(own[:, None] - own, axis=-1)
    assert between[~np.eye(len(own), dtype=bool)].min() > 20
    assert np.linalg.norm(own[:, None] - signs, axis=-1).min() > 20


def test_a_concept_has_one_colour_in_all_views():
    value = examples.beside(examples.explanation(patches=0), patches=0)
    colours = palette.concept_colours(value)
    assert list(colours) == ["layer3", "layer4"]
    for index, name in enumerate(colours):
        views = [view.layers[index] for view in (value, *value.beside)]
        shown = {part.concept for layer in views for part in layer.ranked}
        shown |= {concept for layer in views for concept in layer.concept_map.strength()}
        assert set(colours[name]) == shown
    # neither the order of the views nor which of them is shown first changes a colour
    first, *others = value.beside
    turned = dataclasses.replace(first, beside=(dataclasses.replace(value, beside=()), *others))
    assert palette.concept_colours(turned) == colours


def test_concepts_of_the_map_have_colours_of_their_own_until_they_run_out():
    value = examples.explanation(patches=0, layers=("conv",))
    layer = value.layers[0]
    own = palette.concept_colours(value)["conv"]
    strength = list(layer.concept_map.strength())
    assert list(own)[: len(strength)] == strength
    assert list(own.values())[:8] == list(palette.COLOURS)
    concepts = np.arange(16).reshape(4, 4)
    crowded = dataclasses.replace(layer.concept_map, concept=concepts, relevance=16.0 - concepts, table=None)
    layer = dataclasses.replace(layer, concept_map=crowded)
    crowded_colours = palette.concept_colours(dataclasses.replace(value, layers=(layer,)))["conv"]
    assert list(crowded_colours)[:16] == list(range(16))
    assert [crowded_colours[concept] for concept in range(8, 16)] == [palette.OTHER] * 8


def test_without_a_map_cards_are_coloured_by_share():
    value = examples.explanation(patches=0, layers=("conv",))
    layer = dataclasses.replace(value.layers[0], concept_map=None)
    colours = palette.concept_colours(dataclasses.replace(value, layers=(layer,)))["conv"]
    assert list(colours) == [part.concept for part in layer.ranked]


def test_cells_are_as_opaque_as_the_root_of_what_their_winner_holds():
    assert [palette.cell_opacity(share) for share in (0.0, 0.04, 1.0)] == pytest.approx([0.15, 0.27, 0.75])
    assert palette.cell_opacity(float("nan")) == 0.4
