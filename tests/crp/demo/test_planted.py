"""The built-in sounds, signals and volumes: samples, masks, networks, and where their first concepts are."""

import numpy as np
import pytest
import torch

import crp
from crp.demo import Calls, Heartbeats, Scans, Waveforms, demo_model
from crp.demo.calls import NOISE, STFT
from tests.evidence.planted_truth import NETWORKS, first_concepts, widened


@pytest.mark.parametrize("data", [Calls, Waveforms, Heartbeats, Scans])
def test_samples_repeat_and_only_the_first_class_has_nothing_planted(data):
    made = data("test", 6)
    for index in range(6):
        sample, (values, label) = made.sample(index), data("test", 9)[index]
        np.testing.assert_array_equal(values.numpy(), sample.values)
        assert (label, sample.mask.any()) == (index % 3, index % 3 > 0)
        assert sample.mask.shape == sample.values.shape[1:]
    assert not np.array_equal(made.sample(0).values, data("train", 6).sample(0).values)
    with pytest.raises(IndexError):
        made[6]


@pytest.mark.parametrize("data", [Calls, Heartbeats, Scans])
def test_a_mask_holds_what_was_planted_and_little_else(data):
    made = data("test", 6)
    for index in (1, 2, 4, 5):
        _, planted = made._made(*made._random(index))
        energy = (planted**2).sum(0)
        assert energy[made.shown(index)].sum() > 0.97 * energy.sum()
        # outside of it, nothing stands out of the noise
        assert energy[~made.shown(index)].max() <= len(planted) * made.noise**2


def test_the_noise_of_a_spectrogram_is_that_of_its_magnitudes():
    samples = np.random.default_rng(0).normal(0, NOISE, (1, 400_000)).astype(np.float32)
    # without the lowest and highest frequencies, whose noise is real
    magnitudes = STFT(samples)[0, 2:-2]
    assert np.sqrt((magnitudes**2).mean()) == pytest.approx(Calls.noise, rel=0.01)


def test_waveforms_are_the_calls_and_their_network_is_the_same():
    calls, waveforms = Calls("test", 3), Waveforms("test", 3)
    samples = torch.stack([waveforms[index][0] for index in range(3)])
    pictures = torch.stack([calls[index][0] for index in range(3)])
    whole, part = demo_model("waveform"), demo_model("spectrogram")
    torch.testing.assert_close(whole.stft(samples), pictures, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole(samples), part(pictures), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_first_concept_is_what_was_planted(network):
    rows = first_concepts(network, 8)
    assert all(row.right for row in rows)
    assert all(len({row.first for row in rows if row.label == label}) == 1 for label in (1, 2))
    assert np.mean([row.widened for row in rows]) > 0.8


def test_a_mask_is_widened_along_each_axis():
    mask = np.zeros((3, 4), dtype=bool)
    mask[0, 0] = True
    assert np.argwhere(widened(mask)).tolist() == [[0, 0], [0, 1], [1, 0]]


def test_patches_of_sounds_keep_all_samples(tmp_path):
    library = crp.mine(
        demo_model("waveform"), Waveforms("train", 3), layers=["net.conv4"], path=tmp_path / "calls.crp", k=1,
        patches=1, preprocessing=Waveforms.preprocessing, progress=False,
    )  # fmt: skip
    (patch,) = library.patches_of("net.conv4", [(0, "relevance")])[0, "relevance"]
    first, last = patch.box
    assert last - first > 200
    np.testing.assert_array_equal(patch.picture, Waveforms("train", 3).sample(patch.sample).values[:, first:last])
