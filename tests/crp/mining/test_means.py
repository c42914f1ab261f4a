"""Means of concepts' parts over the data set, as mining keeps them."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from crp.attribution import RelevanceFlow
from crp.concepts import PositionConcept
from crp.errors import InputError, LibraryError
from crp.library import open_library
from crp.library.checksums import write_checksums
from crp.mining import mine
from crp.mining.mean_sums import MeanSums
from crp.verification import verify

COUNT, BLOCK = 11, 4


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double().eval()


class Samples(TensorDataset):
    """Of which some cannot be read."""

    bad = ()

    def __init__(self, count: int = COUNT) -> None:
        generator = torch.Generator().manual_seed(1)
        data = torch.randn(COUNT, 2, 6, 6, generator=generator, dtype=torch.float64)[:count]
        super().__init__(data, torch.zeros(count, dtype=torch.int64))

    def __getitem__(self, index: int) -> tuple:
        if index in self.bad:
            raise OSError("gone")
        return super().__getitem__(index)


def mined(path, samples: Samples | None = None, **options: object):
    options = {"layers": ["1"], "block_size": BLOCK, "patches": 0, "progress": False, **options}
    return mine(net(), samples or Samples(), path=path, **options)


def activation(samples: Samples) -> np.ndarray:
    with torch.no_grad():
        return net()[:2](samples.tensors[0]).numpy()


def test_skipped_samples_do_not_count_and_explained_ones_count_once(tmp_path) -> None:
    samples = Samples()
    samples.bad = (2, 9)
    library = mined(tmp_path / "a", samples, skip_bad=True, targets="top3")
    kept = [index for index in range(COUNT) if index not in samples.bad]
    means = library.means("1")
    assert means.samples == len(kept)
    np.testing.assert_allclose(means.numbers, activation(samples)[kept].mean((0, 2, 3)), rtol=1e-8)
    assert library.concept("1", 2).mean == means.numbers[2]


def test_sums_of_parts_merge_to_the_same_bits_in_any_order() -> None:
    generator = np.random.default_rng(0)
    blocks = [generator.normal(size=(3, 5)) * 10.0 ** generator.integers(-9, 9, 5) for _ in range(6)]
    whole, merged = MeanSums(5), MeanSums(5)
    for block in blocks:
        whole.add(block)
    for part in (blocks[4:], blocks[:1], blocks[1:4]):
        sums = MeanSums(5)
        for block in reversed(part):
            sums.add(block)
        merged.merge(sums.arrays())
    for name, array in whole.arrays().items():
        assert np.array_equal(array, merged.arrays()[name]), name
    assert whole.result().samples == 18
    np.testing.assert_allclose(whole.result().numbers, np.concatenate(blocks).mean(0), rtol=1e-7)


def test_a_longer_data_set_has_the_means_of_all_samples(tmp_path) -> None:
    first = mined(tmp_path / "first", Samples(9))
    longer, whole = mined(tmp_path / "longer", extend=first.path), mined(tmp_path / "whole")
    assert longer.file("1", "means").read_bytes() == whole.file("1", "means").read_bytes()
    assert first.means("1").samples == 9
    assert whole.means("1").samples == COUNT


def test_verify_computes_means_again(tmp_path) -> None:
    library = mined(tmp_path / "a")
    assert verify(library, net(), Samples(), blocks=3).sound
    file = library.file("1", "means")
    content = bytearray(file.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    numbers = np.frombuffer(content, np.float64, 4, begin)
    content[begin : begin + 32] = (numbers * [1, 1.5, 1, 1]).tobytes()
    file.write_bytes(content)
    write_checksums(library.path)
    (wrong,) = verify(library, net(), Samples(), blocks=3).wrong
    assert wrong.startswith("The means of layer '1', of 11 samples, differ by ")


def without_means(library) -> None:
    """Take the means out of a library, as an earlier version left it."""
    manifest = json.loads((library.path / "manifest.json").read_bytes())
    for layer in manifest["layers"]:
        del layer["means"]
        library.file(layer["name"], "means").unlink()
    (library.path / "manifest.json").write_text(json.dumps(manifest))
    write_checksums(library.path)


def test_a_library_of_an_earlier_version_opens_and_says_what_it_lacks(tmp_path) -> None:
    library = mined(tmp_path / "a", Samples(8))
    without_means(library)
    older = open_library(library.path)
    assert older.statistics("1").count.sum() == 8
    assert verify(older, net(), Samples(8), blocks=2).sound
    with pytest.raises(InputError, match="holds no means of layer '1': an earlier version mined it, or"):
        older.means("1")
    with pytest.raises(LibraryError, match=r"it holds no means, because an earlier version mined it\. Mine it"):
        mined(tmp_path / "b", extend=older.path)


def test_means_of_too_many_numbers_are_not_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("crp.mining.survey.MOST_MEANS", 63)
    library = mined(tmp_path / "a", concept=PositionConcept())
    assert library.mean_sizes == {"1": 0}
    with pytest.raises(InputError, match="a mean for each channel at each position, which are too many to keep"):
        library.means("1")
    assert mined(tmp_path / "b").mean_sizes == {"1": 4}


def test_means_of_another_layer_or_kind_are_refused(tmp_path) -> None:
    library = mined(tmp_path / "a", layers=["1", "3"])
    with RelevanceFlow(net(), None, Samples().tensors[0][:1], ["1"]) as flow:
        with pytest.raises(InputError, match="of layer '1' are made of 4 numbers for this kind of concept, given 3"):
            flow.without("1", [0], by=library.means("3"))
        with pytest.raises(InputError, match="made of 64 numbers for this kind of concept, given 4"):
            flow.without("1", [0], by=library.means("1"), concept=PositionConcept())
        with pytest.raises(InputError, match=r"'zero', means over a data set \(library.means\(layer\)\)"):
            flow.without("1", [0], by="mean")
        with pytest.raises(InputError, match="Parts of 2 samples cannot take the place of parts of 1 samples"):
            flow.without("1", [0], by=Samples().tensors[0][:2])
        with pytest.raises(InputError, match=r"must be \[N, 2, 6, 6\], like those of the flow, given \[1, 2, 8, 8\]"):
            flow.without("1", [0], by=torch.randn(1, 2, 8, 8, dtype=torch.float64))
    positions = mined(tmp_path / "b", concept=PositionConcept())
    with pytest.raises(InputError, match="The mean of a PositionConcept is more than one number"):
        positions.concept("1", 0).mean  # noqa: B018
