"""Extending a library to a longer data set gives the same bytes as mining it at once."""

import pytest

from crp.errors import LibraryError
from crp.mining import merge
from tests.durability import subject
from tests.durability.subject import Interrupting, Samples, digest, mined, net, was_passed_from, work


@pytest.mark.parametrize("steps", [(40, 77), (48, 77), (5, 6, 30, 77), (77, 77)])
def test_extending_equals_mining_all_at_once(whole, tmp_path, steps):
    former = None
    for number, length in enumerate(steps):
        former = mined(tmp_path / f"{number}.crp", length=length, extend=former).path
    assert digest(former) == digest(whole)


def test_extending_does_not_read_the_first_samples_again(tmp_path, monkeypatch):
    mined(tmp_path / "a.crp", length=44)  # five complete blocks
    samples = Interrupting(-1)
    monkeypatch.setattr(subject, "Samples", lambda length: samples)
    mined(tmp_path / "b.crp", extend=tmp_path / "a.crp", patches=2)
    assert was_passed_from(40, samples.read)


def test_extending_is_resumed_and_shared(whole, tmp_path):
    mined(tmp_path / "a.crp", length=40)
    path, extend = tmp_path / "b.crp", tmp_path / "a.crp"
    mined(path, shard=(2, 2), extend=extend)
    mined(path, shard=(1, 2), extend=extend)
    skip = {"skip_bad": True, "checkpoint": 0, "progress": False, "patches_now": "all"}
    assert digest(merge(net(), Samples(), path=path, **skip).path) == digest(whole)


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"k": 6}, "cannot be extended to this data set: its settings.k is 5, and now it is 6."),
        ({"layers": ["0"]}, "cannot be extended to this data set: its layers is "),
        ({"length": 30}, "cannot be extended to this data set: it was mined from 40 samples, and there are 30."),
    ],
)
def test_extending_with_other_settings_is_refused(tmp_path, options, end):
    mined(tmp_path / "a.crp", length=40)
    with pytest.raises(LibraryError) as caught:
        mined(tmp_path / "b.crp", extend=tmp_path / "a.crp", **options)
    assert f"The library '{tmp_path / 'a.crp'}' {end}" in str(caught.value)
    assert not work(tmp_path / "b.crp").exists()


def test_extending_with_other_samples_or_without_a_state_is_refused(tmp_path, monkeypatch):
    mined(tmp_path / "a.crp", length=40)
    other = Samples()
    other.data[7] += 1
    monkeypatch.setattr(subject, "Samples", lambda length: other)
    with pytest.raises(LibraryError, match="its first 40 samples are not those that were mined"):
        mined(tmp_path / "b.crp", extend=tmp_path / "a.crp")
    (tmp_path / "a.crp" / "state.safetensors").unlink()
    with pytest.raises(LibraryError, match=r"cannot be extended: it holds no state\.safetensors\.$"):
        mined(tmp_path / "b.crp", extend=tmp_path / "a.crp")
