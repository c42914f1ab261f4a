"""`hf:FOLDER`: with a stand-in for the classes of transformers that are used, and with transformers if it is there."""

import json
import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from crp.errors import InputError, LibraryError
from crp.library.fingerprints import weights_fingerprint
from crp.preprocessing import Preprocessing
from crp.sources import load_model
from crp.sources.named_models import family_of
from crp.sources.plan import preprocessing_for
from crp.sources.provenance import model_of, origin

from .test_provenance import Mined


class Classifier(nn.Module):
    """A model of the stand-in: it returns a dict, as those of transformers do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 2)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.zeros_(self.layer.bias)

    def forward(self, pixel_values):
        return {"logits": self.layer(pixel_values.flatten(1)), "hidden_states": pixel_values}


class Processor:
    """A processor of the stand-in: it resizes to 2 x 2 and normalises, and then changes the values if it is odd."""

    odd = 0.0

    def to_dict(self):
        size = {"height": 2, "width": 2}
        return {"do_resize": True, "size": size, "resample": 2, "do_normalize": True, "image_mean": [0.5] * 3,
                "image_std": [0.25] * 3}  # fmt: skip

    def __call__(self, images, return_tensors):
        pixels = np.asarray(images.resize((2, 2), Image.Resampling.BILINEAR), dtype=np.float32) / 255
        return {"pixel_values": [((pixels - 0.5) / 0.25).transpose(2, 0, 1) + self.odd]}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder that the stand-in loads."""
    transformers = ModuleType("transformers")
    quiet = {name: lambda *_: None for name in ("disable_progress_bar", "enable_progress_bar", "set_verbosity",
                                                "set_verbosity_error", "get_verbosity")}  # fmt: skip
    transformers.utils = SimpleNamespace(logging=SimpleNamespace(is_progress_bar_enabled=lambda: True, **quiet))
    missing = set()

    def load(folder, **options):
        assert options == {"local_files_only": True, "trust_remote_code": False, "output_loading_info": True}
        return Classifier(), {"missing_keys": missing}

    config = SimpleNamespace(id2label={0: "ant", 1: "bee"})
    transformers.AutoModelForImageClassification = SimpleNamespace(from_pretrained=load)
    transformers.AutoImageProcessor = SimpleNamespace(from_pretrained=lambda folder, **_: Processor())
    transformers.AutoConfig = SimpleNamespace(from_pretrained=lambda folder, **_: config)
    transformers.missing, transformers.config = missing, config
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


class TestStandIn:
    def test_the_logits_are_explained(self, folder):
        model = load_model(f"hf:{folder}")
        assert model(torch.zeros(1, 3, 2, 2)).shape == (1, 2)
        assert model.explained_output == "logits"
        assert load_model(f"hf:{folder}", output="hidden_states")(torch.zeros(1, 3, 2, 2)).shape == (1, 3, 2, 2)

    def test_a_head_without_weights_is_refused(self, folder):
        sys.modules["transformers"].missing |= {"layer.weight", "layer.bias"}
        with pytest.raises(InputError) as caught:
            load_model(f"hf:{folder}")
        assert str(caught.value) == (
            f"The folder '{folder}' holds no weights for 'layer.bias', 'layer.weight' of Classifier, which would be "
            "random; save a model that was trained as an image classifier."
        )

    def test_class_names(self, folder):
        family, name = family_of(f"hf:{folder}")
        assert family.class_names(name, None) == ("ant", "bee")
        sys.modules["transformers"].config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
        assert family.class_names(name, None) is None

    def test_preprocessing_is_that_of_the_processor(self, folder, monkeypatch):
        expected = Preprocessing(size=(2, 2), mean=0.5, std=0.25, interpolation="bilinear")
        assert preprocessing_for(f"hf:{folder}", None) == expected
        # a processor that does more than its settings say
        monkeypatch.setattr(Processor, "odd", 0.1)
        with pytest.raises(InputError) as caught:
            preprocessing_for(f"hf:{folder}", None)
        assert str(caught.value) == (
            f"The Processor of '{folder}' prepares pictures in a way that is not supported; give --preprocessing FILE."
        )

    def test_a_folder_without_processor(self, folder):
        (folder / "preprocessor_config.json").unlink()
        with pytest.raises(InputError, match=r"does not say how pictures become model input \(it has no preproc"):
            preprocessing_for(f"hf:{folder}", None)
        (folder / "p.json").write_text('{"size": 4}')
        assert preprocessing_for(f"hf:{folder}", None, str(folder / "p.json")) == Preprocessing(size=4)

    @pytest.mark.parametrize("name", ["google/vit-base-patch16-224", "photos"])
    def test_anything_but_a_folder_is_refused(self, folder, name):
        with pytest.raises(InputError, match=rf"^'{name}' is not a folder with a model of transformers \(it has no"):
            load_model(f"hf:{name}")

    def test_a_library_finds_it_again_unless_its_configuration_has_changed(self, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        source = origin(f"hf:{folder.name}", ".", None, ["crp", "mine"])
        assert source["model"] == f"hf:{folder}"
        library = Mined(json.loads(json.dumps(source)), weights_fingerprint(load_model(f"hf:{folder}")))
        library.manifest["model"]["output"] = "logits"
        monkeypatch.chdir("/")
        assert model_of(library)(torch.zeros(1, 3, 2, 2)).shape == (1, 2)
        (folder / "config.json").write_text('{"hidden_act": "relu"}')
        with pytest.raises(LibraryError, match=r"config\.json' has changed since the library 'mined\.crp' was mined"):
            model_of(library)


def test_without_transformers(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        load_model(f"hf:{tmp_path}")
    assert str(caught.value) == (
        "A model 'hf:FOLDER' needs transformers: pip install crp-atlas[transformers] (or transformers itself)."
    )


def saved_vit(folder, names=("ant", "bee", "cow")):
    """A small ViT with random weights and its processor, as transformers saves them."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=4, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8,
        id2label=dict(enumerate(names)),
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


class TestTransformers:
    def test_a_saved_vit(self, tmp_path):
        saved_vit(tmp_path)
        model = load_model(f"hf:{tmp_path}")
        family, name = family_of(f"hf:{tmp_path}")
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
        assert family.class_names(name, None) == ("ant", "bee", "cow")
        assert preprocessing_for(f"hf:{tmp_path}", None) == Preprocessing(size=(32, 32), mean=0.5, std=0.5)

    def test_a_saved_backbone_is_refused(self, tmp_path):
        saved_vit(tmp_path)
        transformers = pytest.importorskip("transformers")
        transformers.ViTModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
        with pytest.raises(InputError, match=r"holds no weights for 'classifier.bias', 'classifier.weight' of ViTForI"):
            load_model(f"hf:{tmp_path}")

    @pytest.mark.parametrize(
        ("processor", "options", "expected"),
        [
            ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}, {"size": 256, "crop": 224}),
            ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}, {"size": (384, 384)}),
            ("CLIPImageProcessor", {}, {"size": 224, "crop": (224, 224)}),
            ("EfficientNetImageProcessor", {}, None),
        ],
    )
    def test_processors(self, tmp_path, processor, options, expected):
        transformers = pytest.importorskip("transformers")
        (tmp_path / "config.json").write_text("{}")
        made = getattr(transformers, processor)(**options)
        made.save_pretrained(tmp_path)
        with nullcontext() if expected else pytest.raises(InputError, match="in a way that is not supported"):
            found = preprocessing_for(f"hf:{tmp_path}", None)
            assert found == Preprocessing(
                **expected, mean=tuple(made.image_mean), std=tuple(made.image_std), interpolation="bicubic"
            )
