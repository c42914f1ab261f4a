"""zennit-crp's caches: equal to what they gave, and right where they were not."""

from __future__ import annotations

import functools
import gc
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from crp.cache import Cache, ImageCache, plot_name
from crp.library.fingerprints import value_fingerprint
from tests import processes
from tests.legacy import scripts_mining
from tests.legacy.golden import assert_as_recorded

HOW = ("layer", "relevance")
WHERE = (None, False, "get_max_reference", "plot")


def images(count, light=9):
    return [Image.new("L", (3, 2), light + number) for number in range(count)]


def test_the_image_cache_as_recorded():
    assert_as_recorded(scripts_mining.cached)


def test_a_cache_of_ones_own_says_what_is_missing():
    cache = Cache("somewhere")
    assert str(cache.path) == "somewhere"
    for call in (lambda: cache.save(*[None] * 8), lambda: cache.load(*[None] * 8), lambda: cache.extend_dict({}, {})):
        with pytest.raises(NotImplementedError, match=r"must define '(save|load|extend_dict)'"):
            call()


def test_pairs_whose_second_picture_is_missing_are_drawn_again(tmp_path):
    cache = ImageCache(tmp_path)
    cache.save({1: (images(3), images(3))}, *HOW, (0, 3), *WHERE)
    next(tmp_path.rglob("1_1_1.png")).unlink()
    found, missing = cache.load([1], *HOW, (0, 3), *WHERE)
    assert [len(part) for part in found[1]] == [1, 1]
    assert missing == {1: (1, 3)}


def test_only_pictures_are_kept(tmp_path):
    with pytest.raises(TypeError, match="saves PIL pictures, given a Tensor"):
        ImageCache(tmp_path).save({1: [torch.zeros(2, 2)]}, *HOW, (0, 1), *WHERE)
    with pytest.raises(TypeError, match="A list cannot be appended to a tuple"):
        ImageCache(tmp_path).extend_dict({1: ([], [])}, {1: []})


def test_bug_image_files_stayed_open(tmp_path):
    cache = ImageCache(tmp_path)
    cache.save({1: images(2)}, *HOW, (0, 2), *WHERE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        found = cache.load([1], *HOW, (0, 2), *WHERE)[0]
        for path in tmp_path.rglob("*.png"):
            path.write_bytes(b"")  # they were read already
        assert [image.getpixel((0, 0)) for image in found[1]] == [9, 10]
        assert [image.fp for image in found[1] if getattr(image, "fp", None)] == []
        gc.collect()


def draw(data, heatmaps, rf, alpha=1):
    return alpha


def test_bug_lambdas_and_options_shared_a_key():
    def drawing(alpha):
        return lambda data, heatmaps, rf: alpha

    partials = [functools.partial(draw, alpha=alpha) for alpha in (1, 2, 1)]
    names = [plot_name(function) for function in (*partials, drawing(1), drawing(2), drawing(1), draw)]
    assert names[0] == names[2]
    assert names[3] == names[5]
    assert len(set(names)) == 5
    assert [name.partition("-")[0] for name in names] == ["draw"] * 3 + ["lambda"] * 3 + ["draw"]


def test_a_fingerprint_tells_values_apart():
    loop = [1]
    loop.append(loop)
    values = [
        0, 0.0, False, None, "0", b"0", [0], (0,), {0: 1}, {1: 0}, {0, 1}, np.zeros(2), np.zeros(2, int),
        torch.ones(2), np.ones((1, 2)), int, len, loop, functools.partial(len, []),
    ]  # fmt: skip
    assert len({value_fingerprint(value) for value in values}) == len(values)
    assert value_fingerprint([1, 2], 3) != value_fingerprint([1], 2, 3)
    assert value_fingerprint({1, 2, 3}) == value_fingerprint({3, 2, 1})


def test_a_fingerprint_is_the_same_in_another_process():
    code = (
        "import crp.attribution; from zennit.composites import EpsilonGammaBox;"
        "from crp.library.fingerprints import value_fingerprint;"
        "found = value_fingerprint(EpsilonGammaBox(low=-1, high=1), lambda data: data * 2, {'a', 'b', 'c'})"
    )
    exec(code, here := {})
    other = processes.run(["-c", f"{code}; print(found)"], cwd=processes.ROOT)  # whose sets have another order
    assert other.stdout.strip() == here["found"]
    assert len(here["found"]) == 64
