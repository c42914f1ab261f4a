"""Samples that cannot be used are skipped, and the results of all others stay the same."""

import pytest
import torch
from torch import nn

from crp.errors import SampleError
from crp.mining import add_patches
from tests.durability import subject
from tests.durability.subject import Samples, digest, mined, net


class Spoilt(Samples):
    """Some samples cannot be read, or are not finite."""

    def __init__(self, unreadable=(), not_finite=(), far_label=()):
        super().__init__()
        self.unreadable, self.not_finite = unreadable, not_finite
        for index in far_label:
            self.labels[index] = 9

    def sample_name(self, index):
        return f"{index}.png"

    def __getitem__(self, index):
        if index in self.unreadable:
            raise OSError("gone")
        return self.data[index] * (torch.nan if index in self.not_finite else 1), int(self.labels[index])


class Overflowing(nn.Module):
    """Its output is infinite for samples whose first value is above a hundred."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, data):
        return self.net(data) + torch.where(data[:, :1, 0, 0] > 100, torch.inf, 0.0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The library of samples that can all be used, with all of them in its lists."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "Samples", lambda length: Spoilt())
        return mined(tmp_path_factory.mktemp("sound") / "a.crp", k=77, patches=0)


class TestSkipping:
    def mined(self, path, samples, monkeypatch, model=None, **options):
        monkeypatch.setattr(subject, "Samples", lambda length: samples)
        if model is not None:
            monkeypatch.setattr(subject, "net", lambda: model)
        return mined(path, **options)

    @pytest.mark.parametrize("bad", [(21,), (0, 1), (8, 9, 10, 11, 12, 13, 14, 15), (3, 76), (72, 73, 74, 75, 76)])
    def test_results_of_other_samples_keep_their_bits(self, sound, tmp_path, monkeypatch, bad):
        skipped = self.mined(tmp_path / "b.crp", Spoilt(unreadable=bad), monkeypatch, k=77, patches=0)
        for layer in sound.layers:
            for mode in ("relevance", "activation"):
                ours, theirs = skipped.references(layer, mode), sound.references(layer, mode)
                for concept in range(len(ours.sample)):
                    kept = ~torch.isin(torch.tensor(theirs.sample[concept]), torch.tensor(bad)).numpy()
                    count = 77 - len(bad)
                    assert ours.sample[concept, :count].tolist() == theirs.sample[concept, kept].tolist()
                    assert ours.score[concept, :count].tolist() == theirs.score[concept, kept].tolist()
                    assert (ours.sample[concept, count:] == -1).all()
            assert skipped.statistics(layer).count.sum() == 77 - len(bad)
        assert skipped.manifest["skipped"] == [
            {"sample": index, "name": f"{index}.png", "fact": "could not be read: OSError: gone"} for index in bad
        ]

    def test_samples_on_which_the_model_fails_are_skipped(self, tmp_path, monkeypatch, caplog):
        samples = Spoilt(not_finite=(30,), far_label=(31,))
        samples.data[[32, 50], 0, 0, 0] = 1000
        library = self.mined(tmp_path / "a.crp", samples, monkeypatch, Overflowing(), layers=["net.0"])
        output = "cannot be explained: The model's output is not finite (NaN or infinite) for this input."
        assert {entry["sample"]: entry["fact"] for entry in library.manifest["skipped"]} == {
            30: "holds NaN or infinite values.",
            31: "has label 9, but the model has the classes 0 to 2.",
            32: output,
            50: output,
        }
        assert library.statistics("net.0").count.sum() == 73
        assert caplog.messages[-1] == "4 of 77 samples were skipped; the library lists them."

    @pytest.mark.parametrize(
        ("samples", "sentence"),
        [
            (Spoilt(unreadable=(30,)), "Sample 30 ('30.png') could not be read: OSError: gone"),
            (Spoilt(not_finite=(30,)), "Sample 30 ('30.png') holds NaN or infinite values."),
            (Spoilt(far_label=(31,)), "Sample 31 ('31.png') has label 9, but the model has the classes 0 to 2."),
        ],
    )
    @pytest.mark.parametrize("workers", [0, 1])
    def test_without_skipping_one_sentence_names_the_sample(self, tmp_path, monkeypatch, samples, sentence, workers):
        with pytest.raises(SampleError) as caught:
            self.mined(tmp_path / "a.crp", samples, monkeypatch, skip_bad=False, workers=workers)
        assert str(caught.value) == sentence

    def test_the_sample_whose_output_is_not_finite_is_named(self, tmp_path, monkeypatch):
        samples = Spoilt()
        samples.data[45, 0, 0, 0] = 1000
        with pytest.raises(SampleError) as caught:
            self.mined(tmp_path / "a.crp", samples, monkeypatch, Overflowing(), layers=["net.0"], skip_bad=False)
        assert str(caught.value) == (
            "Sample 45 ('45.png') cannot be explained: The model's output is not finite (NaN or infinite) for this "
            "input."
        )
        assert "the same command resumes from there" in caught.value.__notes__[0]

    @pytest.mark.parametrize("labels", [pytest.param((), marks=pytest.mark.slow), (0, 21)])
    def test_patches_can_be_added_to_a_library_with_skipped_samples(self, tmp_path, monkeypatch, labels):
        samples = Spoilt(unreadable=(21, 30))
        without_labels = [(samples.data[index], None) for index in labels]
        read = Spoilt.__getitem__
        monkeypatch.setattr(
            Spoilt,
            "__getitem__",
            lambda self, index: without_labels[labels.index(index)] if index in labels else read(self, index),
        )
        whole = self.mined(tmp_path / "a.crp", samples, monkeypatch)
        some = self.mined(tmp_path / "b.crp", samples, monkeypatch, patch_concepts={})
        for layer in ("3", "0"):
            concepts = range(some.shape(layer)[0])
            add_patches(some, net(), samples, layer, concepts, progress=False)
        assert [entry["sample"] for entry in whole.manifest["skipped"]] == sorted({21, 30, *labels})
        assert digest(some.path) == digest(whole.path)

    def test_skipping_all_samples_is_an_error(self, tmp_path, monkeypatch):
        with pytest.raises(SampleError, match=r"^Sample 0 \('0\.png'\) could not be read: OSError: gone$"):
            self.mined(tmp_path / "a.crp", Spoilt(unreadable=range(77)), monkeypatch)
