"""zennit-crp's image cache: which references are drawn once, and which are drawn again."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from zennit.composites import EpsilonPlusFlat

from crp.errors import InputError
from crp.image import imgify, vis_img_heatmap, vis_opaque_img
from tests.legacy.feature_visualizations import Colours, drawing


def light(data, heatmaps, rf, times=1):
    """Draws, and counts how often."""
    light.calls += len(data)
    return vis_opaque_img(data * times, heatmaps, rf)


@pytest.fixture(autouse=True)
def _nothing_drawn():
    light.calls = 0


def cut(data, heatmaps, rf, side):
    return [imgify(sample[..., :side]) for sample in data]


def pixels(images):
    return [np.asarray(image.convert("RGB")).tolist() for image in images]


def test_bug_an_int_failed_with_a_cache(tmp_path):
    fv = drawing(tmp_path)
    how = dict(composite=EpsilonPlusFlat(), plot_fn=light)
    first = fv.get_max_reference(2, "0", **how)
    assert light.calls == 8
    again = fv.get_max_reference([2], "0", **how)
    assert light.calls == 8
    assert pixels(first[2]) == pixels(again[2])
    stats = fv.get_stats_reference(2, "0", 1, r_range=(0, 3), **how)
    assert list(stats) == ["2:1"]
    assert pixels(stats["2:1"]) == pixels(fv.get_stats_reference(2, "0", [1], r_range=(0, 3), **how)["2:1"])
    assert light.calls == 11
    uncached = drawing(tmp_path / "other", cache=False).get_max_reference(np.array([2]), "0", **how)
    assert pixels(uncached[2]) == pixels(first[2])


def test_ranks_that_are_missing_are_drawn_and_appended(tmp_path):
    fv = drawing(tmp_path)
    how = dict(composite=EpsilonPlusFlat(), plot_fn=light)
    fv.get_max_reference([1], "0", r_range=(0, 3), **how)
    more = fv.get_max_reference([1, 3], "0", r_range=(0, 5), **how)
    assert light.calls == 3 + 2 + 5
    assert pixels(more[1]) == pixels(fv.get_max_reference(1, "0", r_range=(0, 5), overwrite=True, **how)[1])
    assert light.calls == 15
    pairs, again = (fv.get_max_reference(1, "0", r_range=(0, 2), composite=EpsilonPlusFlat())[1] for _ in range(2))
    assert [len(part) for part in pairs] == [2, 2]
    assert pixels(pairs[1]) == pixels(again[1])


def test_bug_a_cache_asked_for_ever_for_references_that_are_not_there(tmp_path):
    fv = drawing(tmp_path)
    for _ in range(2):
        found = fv.get_max_reference([1], "0", r_range=(9, 40), composite=EpsilonPlusFlat(), plot_fn=light)
        assert len(found[1]) == 3
    assert light.calls == 3


def test_bug_the_cache_reused_pictures_of_other_rules_models_data_and_options(tmp_path):
    ways = itertools.product((1e-6, 0.1), (0, 1), (0, 1), (1, 0.5))
    names = set()
    for number, (epsilon, weights, samples, times) in enumerate(ways, 1):
        fv = drawing(tmp_path, samples=Colours(samples), model=Colours.net(weights))
        plot = functools.partial(light, times=times)
        for _ in range(2):
            fv.get_max_reference(1, "0", r_range=(0, 1), composite=EpsilonPlusFlat(epsilon=epsilon), plot_fn=plot)
        assert light.calls == number
        names = {path.name for path in (tmp_path / "cache" / "get_max_reference").iterdir()}
        assert len(names) == number
    assert all(name.startswith("light-") for name in names)


def test_bug_a_partial_or_lambda_failed_or_shared_its_pictures(tmp_path):
    fv = drawing(tmp_path)
    drawn = [
        fv.get_max_reference(1, "0", r_range=(0, 1), composite=EpsilonPlusFlat(), plot_fn=plot_fn)[1]
        for plot_fn in (
            functools.partial(cut, side=7),
            functools.partial(cut, side=4),
            lambda data, heatmaps, rf: cut(data, heatmaps, rf, 5),
            lambda data, heatmaps, rf: cut(data, heatmaps, rf, 6),
        )
    ]
    assert [images[0].size for images in drawn] == [(side, 12) for side in (7, 4, 5, 6)]


def test_what_is_precomputed_is_found(tmp_path):
    fv = drawing(tmp_path)
    composite = EpsilonPlusFlat()
    fv.precompute_ref({"0": [1, 2]}, composite, stats=True, top_N=1, plot_list=[light, vis_img_heatmap], r_range=(0, 3))
    assert light.calls == 12
    found = fv.get_max_reference([1, 2], "0", r_range=(0, 3), composite=composite, rf=True, plot_fn=light)
    (target,), _ = fv.compute_stats(2, "0", top_N=1)
    fv.get_stats_reference(2, "0", target, r_range=(0, 3), composite=composite, rf=True, plot_fn=light)
    assert light.calls == 12
    fresh = drawing(tmp_path / "other", cache=False).get_max_reference(
        2, "0", r_range=(0, 3), composite=composite, rf=True, plot_fn=light
    )
    assert pixels(found[2]) == pixels(fresh[2])


def test_what_precomputing_needs(tmp_path):
    with pytest.raises(InputError, match=r"cache=\.\.\."):
        drawing(tmp_path, cache=False).precompute_ref({"0": [1]}, EpsilonPlusFlat())
    with pytest.raises(InputError, match="give a zennit composite"):
        drawing(tmp_path / "other").precompute_ref({"0": [1]}, None)


def test_without_a_drawing_function_the_cache_is_not_asked(tmp_path):
    fv = drawing(tmp_path)
    data, heatmaps = fv.get_max_reference(1, "0", composite=EpsilonPlusFlat(), plot_fn=None)[1]
    assert data.shape == (8, 3, 12, 12)
    assert heatmaps.shape == (8, 12, 12)
    assert fv.get_max_reference(1, "0")[1].shape == (8, 3, 12, 12)  # without heatmaps nothing is drawn
    assert not (tmp_path / "cache").exists()
