"""Extending a library to a longer data set gives the same bytes as mining it at once."""

import shutil

import pytest

from crp.errors import LibraryError
from crp.mining import merge
from tests.durability import subject
from tests.durability.subject import Interrupting, Samples, digest, mined, net, was_passed_from, work


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """The library of the first 40 samples."""
    return mined(tmp_path_factory.mktemp("forty") / "a.crp", length=40).path


# 48 ends a block as 40 does
@pytest.mark.parametrize("steps", [(40, 77), pytest.param((48, 77), marks=pytest.mark.slow), (5, 6, 30, 77), (77, 77)])
def test_extending_equals_mining_all_at_once(whole, tmp_path, steps):
    former = None
    for number, length in enumerate(steps):
        former = mined(tmp_path / f"{number}.crp", length=length, extend=former).path
    assert digest(former) == digest(whole)


def test_extending_does_not_read_the_first_samples_again(tmp_path, monkeypatch):
    mined(tmp_path / "a.crp", length=44, patches=0)  # five complete blocks
    samples = Interrupting(-1)
    monkeypatch.setattr(subject, "Samples", lambda length: samples)
    mined(tmp_path / "b.crp", extend=tmp_path / "a.crp", patches=0)
    assert was_passed_from(40, samples.read)


def test_extending_is_resumed_and_shared(whole, forty, tmp_path):
    path = tmp_path / "b.crp"
    mined(path, shard=(2, 2), extend=forty)
    mined(path, shard=(1, 2), extend=forty)
    skip = {"skip_bad": True, "checkpoint": 0, "progress": False, "patches_now": "all"}
    assert digest(merge(net(), Samples(), path=path, **skip).path) == digest(whole)


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"k": 6}, "cannot be extended to this data set: its settings.k is 5, and now it is 6."),
        ({"layers": ["0"]}, "cannot be extended to this data set: its layers is "),
        ({"length": 30}, "cannot be extended to this data set: 40 samples were mined, and there are 30."),
    ],
)
def test_extending_with_other_settings_is_refused(forty, tmp_path, options, end):
    with pytest.raises(LibraryError) as caught:
        mined(tmp_path / "b.crp", extend=forty, **options)
    assert f"The library '{forty}' {end}" in str(caught.value)
    assert not work(tmp_path / "b.crp").exists()


def test_extending_with_other_samples_or_without_a_state_is_refused(forty, tmp_path, monkeypatch):
    shutil.copytree(forty, tmp_path / "a.crp")
    other = Samples()
    other.data[7] += 1
    monkeypatch.setattr(subject, "Samples", lambda length: other)
    with pytest.raises(LibraryError, match="its first 40 samples are not those that were mined"):
        mined(tmp_path / "b.crp", extend=tmp_path / "a.crp")
    other = Samples()
    other.labels = (other.labels + 1) % 3
    with pytest.raises(LibraryError, match="the labels of its first 40 samples are not those that were mined"):
        mined(tmp_path / "b.crp", extend=tmp_path / "a.crp")
    (tmp_path / "a.crp" / "state.safetensors").unlink()
    with pytest.raises(LibraryError, match=r"cannot be extended: it holds no state\.safetensors\.$"):
        mined(tmp_path / "b.crp", extend=tmp_path / "a.crp")
