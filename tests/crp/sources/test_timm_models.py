"""`timm:NAME`: with a stand-in for timm (its functions that are used), and with timm if it is there."""

import sys
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from crp.errors import InputError
from crp.preprocessing import Preprocessing
from crp.sources import load_model
from crp.sources.named_models import family_of
from crp.sources.plan import plan_mining, preprocessing_for

from .conftest import saved_pictures


@dataclass(frozen=True)
class Config:
    """The entries of timm's PretrainedCfg that are used."""

    input_size: tuple = (3, 24, 24)
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple = (0.5, 0.4, 0.3)
    std: tuple = (0.25, 0.2, 0.1)
    hf_hub_id: str | None = None
    hf_hub_filename: str | None = None
    url: str | None = None
    label_names: tuple | None = None


CONFIGS = {"tiny": Config(), "wide": Config(crop_mode="squash", crop_pct=1.0, input_size=(1, 8, 16), mean=(0.5,),
                                            std=(1.0,))}  # fmt: skip


def tiny(num_classes=3):
    lower = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*lower, nn.Linear(4, num_classes))


@pytest.fixture
def standin(monkeypatch):
    """A module named timm that knows two models and refuses to download."""
    timm = ModuleType("timm")

    def create_model(name, pretrained=False, pretrained_cfg_overlay=None, **options):
        model = tiny(**options)
        if pretrained:
            model.load_state_dict(torch.load(pretrained_cfg_overlay["file"]))
        return model

    timm.create_model = create_model
    timm.list_models = lambda: sorted(CONFIGS)
    timm.list_pretrained = lambda pattern: ["tiny.in1k", "tiny.in12k"] if pattern == "tiny.*" else []
    timm.get_pretrained_cfg = lambda name: CONFIGS[name.partition(".")[0]]
    monkeypatch.setitem(sys.modules, "timm", timm)
    return timm


class TestStandIn:
    def test_weights_of_a_file_with_another_number_of_classes(self, standin, tmp_path):
        state = {name: torch.full_like(value, 0.5) for name, value in tiny(7).state_dict().items()}
        save_file(state, tmp_path / "w.safetensors")
        model = load_model("timm:tiny", tmp_path / "w.safetensors")
        assert not model.training
        assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 7)
        assert all((value == 0.5).all() for value in model.state_dict().values())

    def test_preprocessing_is_that_of_the_configuration(self, standin):
        # 24 / 0.875 = 27.4
        assert preprocessing_for("timm:tiny.in1k", "w.pt") == Preprocessing(
            size=27, crop=24, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1), interpolation="bicubic"
        )
        assert preprocessing_for("timm:wide", "w.pt") == Preprocessing(
            size=(8, 16), crop=(8, 16), mean=0.5, std=1.0, mode="L", interpolation="bicubic"
        )

    @pytest.mark.parametrize(
        "config", [replace(Config(), crop_mode="border"), replace(Config(), crop_pct=1.2), Config((3, 8, 16))]
    )
    def test_preprocessing_of_another_kind_is_refused(self, standin, monkeypatch, config):
        monkeypatch.setitem(CONFIGS, "tiny", config)
        with pytest.raises(InputError, match=r"^timm prepares pictures for 'tiny' in a way that is not supported"):
            preprocessing_for("timm:tiny", "w.pt")

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("tinny", "timm has no model 'tinny'; did you mean 'tiny'?"),
            ("hf-hub:someone/tiny", "timm has no model 'hf-hub:someone/tiny'; there are 'tiny', 'wide'."),
            ("tiny.laion", "timm has no weights 'laion' of 'tiny'; there are 'in1k', 'in12k'."),
        ],
    )
    def test_other_names_are_refused_before_anything_is_loaded(self, standin, name, sentence):
        with pytest.raises(InputError) as caught:
            load_model(f"timm:{name}")
        assert str(caught.value) == sentence

    def test_without_weights_it_would_be_random(self, standin, tmp_path):
        saved_pictures(tmp_path / "data", ["a.png"])
        with pytest.raises(InputError) as caught:
            plan_mining("timm:tiny", str(tmp_path / "data"))
        assert str(caught.value) == (
            "Without weights the model 'timm:tiny' is random; give --weights FILE, or --weights DEFAULT for timm's own."
        )

    def test_default_weights_are_those_that_were_downloaded_before(self, standin, tmp_path, monkeypatch):
        monkeypatch.setitem(CONFIGS, "tiny", Config(url="https://example.org/tiny-1.pth"))
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        hub = ModuleType("huggingface_hub")
        hub.try_to_load_from_cache = lambda *_, **__: None
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        with pytest.raises(InputError) as caught:
            load_model("timm:tiny", "DEFAULT")
        assert str(caught.value) == (
            "timm has not downloaded the weights of 'tiny'; give --weights FILE, or download them with  "
            "python -c \"import timm; timm.create_model('tiny', pretrained=True)\""
        )
        (tmp_path / "checkpoints").mkdir()
        state = {name: value * 0 + 2 for name, value in tiny().state_dict().items()}
        torch.save(state, tmp_path / "checkpoints" / "tiny-1.pth")
        assert all((value == 2).all() for value in load_model("timm:tiny", "DEFAULT").state_dict().values())

    def test_weights_in_the_cache_of_the_hub(self, standin, tmp_path, monkeypatch):
        monkeypatch.setitem(CONFIGS, "tiny", Config(hf_hub_id="timm/tiny.in1k@v2"))
        torch.save({name: value * 0 + 3 for name, value in tiny().state_dict().items()}, tmp_path / "w.bin")
        asked = []

        def cached(repository, file, revision):
            asked.append((repository, file, revision))
            return str(tmp_path / "w.bin") if file.endswith(".bin") else None

        hub = ModuleType("huggingface_hub")
        hub.try_to_load_from_cache = cached
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        assert all((value == 3).all() for value in load_model("timm:tiny", "DEFAULT").state_dict().values())
        assert asked == [("timm/tiny.in1k", "model.safetensors", "v2"), ("timm/tiny.in1k", "pytorch_model.bin", "v2")]


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError) as caught:
        load_model("timm:convnext_atto")
    assert str(caught.value) == "A model 'timm:NAME' needs timm: pip install crp-atlas[timm] (or timm itself)."


class TestTimm:
    @pytest.mark.parametrize(
        "name", ["convnext_atto", "vit_tiny_patch16_224", "tf_efficientnet_lite0", "eva02_tiny_patch14_336"]
    )
    def test_pictures_are_prepared_as_timm_does(self, name):
        timm = pytest.importorskip("timm")
        picture = np.random.default_rng(0).integers(0, 256, (301, 402, 3), dtype=np.uint8)
        config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        expected = timm.data.create_transform(**config)(Image.fromarray(picture))
        ours = preprocessing_for(f"timm:{name}", "w.pt").to_input(picture)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)

    def test_a_trained_network(self, real_data):
        pytest.importorskip("timm")
        weights = real_data / "efficientnet_lite0_imagenet.safetensors"
        model = load_model("timm:tf_efficientnet_lite0", weights)
        picture = next((real_data / "imagenet_samples").glob("*_tiger.JPEG"))
        prepare = preprocessing_for("timm:tf_efficientnet_lite0", str(weights))
        with torch.no_grad():
            assert model(prepare.to_input(Image.open(picture))[None]).argmax() == 292  # tiger

    def test_class_names_come_with_timms_own_weights(self):
        pytest.importorskip("timm")
        family, name = family_of("timm:convnext_atto")
        names = family.class_names(name, "DEFAULT")
        assert (len(names), names[0], names[292]) == (1000, "tench, Tinca tinca", "tiger, Panthera tigris")
        assert family.class_names(name, "w.pt") is None
