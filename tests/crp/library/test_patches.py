import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crp.library.patches import MODES, encode_picture, read_patches, stored_concepts, write_patches

from .conftest import stored_patch


def facts(patch):
    return (patch.sample, patch.score, patch.target, patch.position, patch.box, patch.picture, patch.heatmap.tolist())


PATCHES = st.builds(stored_patch, st.integers(0, 25), st.integers(1, 5), st.integers(1, 5), st.integers(0, 9))
LISTS = st.lists(PATCHES, max_size=3).map(tuple)
LAYER = st.dictionaries(st.integers(0, 9), st.fixed_dictionaries(dict.fromkeys(MODES, LISTS)), max_size=4)


@settings(max_examples=40)
@given(layer=LAYER)
def test_written_and_read_in_whole_and_in_part(tmp_path_factory, layer):
    path = tmp_path_factory.mktemp("patches") / "a"
    write_patches(path, layer)
    assert stored_concepts(path) == sorted(layer)
    found = read_patches(path)
    assert sorted(found) == sorted(layer)
    for concept, modes in layer.items():
        for mode in MODES:
            assert [facts(patch) for patch in found[concept][mode]] == [facts(patch) for patch in modes[mode]]
            (alone,) = read_patches(path, [concept]).values()
            assert [facts(patch) for patch in alone[mode]] == [facts(patch) for patch in modes[mode]]
    assert read_patches(path, [77]) == {}


def test_the_order_of_concepts_does_not_matter(tmp_path):
    layer = {3: {"relevance": (stored_patch(1),)}, 1: {"activation": (stored_patch(2), stored_patch(3))}}
    write_patches(tmp_path / "a", layer)
    write_patches(tmp_path / "b", dict(reversed(layer.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("side", "kind"), [(4, "PNG"), (64, "JPEG")])
def test_the_smaller_kind_is_kept(side, kind):
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(picture[:4, :4]).resize((side, side), Image.Resampling.BICUBIC))
    with Image.open(io.BytesIO(encode_picture(smooth))) as found:
        assert found.format == kind
        assert np.abs(np.asarray(found).astype(int) - smooth).mean() < 3
        if kind == "PNG":
            assert np.array_equal(found, smooth)
