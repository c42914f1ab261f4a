"""Merging shards: what is missing, what does not belong together, where the settings come from."""

import pytest

from crp.errors import InputError, LibraryError
from crp.mining import merge
from tests.durability.subject import Samples, digest, mined, net, work


def test_merging_says_which_samples_are_missing(tmp_path):
    path = tmp_path / "a.crp"
    mined(path, shard=(1, 3))
    with pytest.raises(LibraryError) as caught:
        merge(net(), Samples(), path=path, skip_bad=True)
    assert str(caught.value) == (
        "Samples 24 to 71 have not been mined yet: run the missing shard, or the command without "
        "--shard, which mines the rest."
    )


def test_merging_without_shards_is_refused(tmp_path):
    with pytest.raises(LibraryError) as caught:
        merge(net(), Samples(), path=tmp_path / "a.crp")
    folder = work(tmp_path / "a.crp")
    assert str(caught.value) == f"There is nothing to merge: '{folder}' is not a work folder of `crp mine`."
    assert list(tmp_path.iterdir()) == []


def test_merging_shards_with_other_settings_is_refused(tmp_path):
    mined(tmp_path / "a.crp", shard=(1, 2))
    mined(tmp_path / "b.crp", shard=(2, 2), top=3)
    other = work(tmp_path / "b.crp")
    with pytest.raises(LibraryError) as caught:
        merge(net(), Samples(), path=tmp_path / "a.crp", others=[other])
    assert str(caught.value) == (
        f"'{other}' does not belong to the other shards: its settings.top is 10, and now it is 3."
    )


def test_merging_takes_settings_from_the_shards_and_the_function_from_the_caller(tmp_path):
    def second(prediction, labels):
        return prediction.argsort(1)[:, 1]

    settings = {"targets": second, "relevance_score": "max", "class_names": ["a", "b", "c"], "precision": "bfloat16"}
    expected = digest(mined(tmp_path / "a.crp", **settings).path)
    mined(tmp_path / "b.crp", shard=(1, 1), **settings)
    again = {"path": tmp_path / "b.crp", "skip_bad": True, "progress": False, "patches_now": "all"}
    with pytest.raises(InputError, match=r"^The shards used the target rule '.*second': pass that function as t"):
        merge(net(), Samples(), **again)
    assert digest(merge(net(), Samples(), targets=second, **again).path) == expected


@pytest.mark.parametrize("shard", [(0, 3), (4, 3)])
def test_shards_out_of_range_are_refused(tmp_path, shard):
    sentence = f"There is no shard {shard[0]}/3: the shards of 3 are 1/3 to 3/3."
    with pytest.raises(InputError) as caught:
        mined(tmp_path / "a.crp", shard=shard)
    assert str(caught.value) == sentence
