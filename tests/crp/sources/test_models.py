"""Models loaded from what a string names."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from crp.demo import TAGGED_CLASS, demo_model
from crp.errors import InputError, ModelError
from crp.preprocessing import Preprocessing
from crp.sources import load_data, load_model
from crp.sources.fitting import number_of_classes
from crp.sources.named_models import family_of


class TestLoadModel:
    def test_function_of_a_file(self, net):
        model = load_model(net)
        assert not model.training
        assert [tuple(value.shape) for value in model.parameters()] == [
            (4, 3, 3, 3),
            (4,),
            (5, 4, 3, 3),
            (5,),
            (3, 5),
            (3,),
        ]

    def test_a_module_that_is_made_already(self, net):
        assert isinstance(load_model(net.replace(":make", ":ready")), nn.Sequential)

    def test_a_file_may_import_its_neighbours(self, tmp_path, net):
        (tmp_path / "other.py").write_text("import net\n\ndef model():\n    return net.make()\n")
        assert len(load_model(f"{tmp_path / 'other.py'}:model")) == 7

    def test_function_of_a_module(self):
        assert isinstance(load_model("torch.nn:Identity"), nn.Identity)

    @pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth"])
    def test_weights(self, tmp_path, net, suffix):
        state = {name: torch.full_like(value, 0.25) for name, value in load_model(net).state_dict().items()}
        file = tmp_path / f"w.{suffix}"
        save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
        assert all((value == 0.25).all() for value in load_model(net, file).state_dict().values())

    @pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
    def test_checkpoints_are_unwrapped_and_their_prefix_taken_off(self, tmp_path, net, wrapper):
        state = {f"module.{name}": value * 0 for name, value in load_model(net).state_dict().items()}
        torch.save({wrapper: state, "epoch": 3}, tmp_path / "w.pth")
        assert all((value == 0).all() for value in load_model(net, tmp_path / "w.pth").state_dict().values())

    @pytest.mark.parametrize(("spec", "network"), [("demo", "cnn"), ("demo:cnn", "cnn"), ("demo:vit", "vit")])
    def test_built_in_models(self, spec, network):
        model, expected = load_model(spec), demo_model(network)
        assert type(model) is type(expected)
        assert all(torch.equal(value, expected.state_dict()[name]) for name, value in model.state_dict().items())
        assert family_of(spec)[0].class_names("", None)[TAGGED_CLASS] == "octagon"

    def test_a_built_in_model_that_there_is_not(self):
        with pytest.raises(InputError, match="There is no demo network 'vti'; did you mean 'vit'"):
            load_model("demo:vti")

    def test_torchvision_takes_the_number_of_classes_from_the_weights(self, tmp_path):
        from crp.compat import import_zennit_safely

        import_zennit_safely()
        models = pytest.importorskip("torchvision.models")
        state = models.get_model("squeezenet1_1", weights=None, num_classes=7).state_dict()
        save_file(state, tmp_path / "w.safetensors")
        model = load_model("torchvision:squeezenet1_1", tmp_path / "w.safetensors")
        assert number_of_classes(model, torch.zeros(3, 64, 64), "x") == 7
        assert torch.equal(model.classifier[1].weight, state["classifier.1.weight"])

    def test_loading_runs_no_code_of_a_weights_file(self, tmp_path, net):
        class Trap:
            def __reduce__(self):
                return (open, (str(tmp_path / "sprung"), "w"))

        torch.save({"state_dict": {"0.weight": Trap()}}, tmp_path / "w.pt")
        with pytest.raises(InputError, match="holds Python objects other than tensors"):
            load_model(net, tmp_path / "w.pt")
        assert not (tmp_path / "sprung").exists()

    def test_real_weights_give_the_expected_classes(self, real_data):
        model = load_model("torchvision:squeezenet1_1", real_data / "squeezenet1_1_imagenet.safetensors")
        data = load_data(str(real_data / "imagenet_samples"), Preprocessing.imagenet())
        expected = json.loads((real_data / "imagenet_samples" / "expected.json").read_text())["squeezenet1_1"]
        for index in range(0, len(data), 12):
            answer = expected[data.sample_name(index)]
            logits = model(data[index][None])[0]
            assert logits.topk(5).indices.tolist() == answer["top5"]


class TestRefusals:
    """Errors for a wrong model or weights file; the command line passes them on."""

    def test_non_finite_weights(self, tmp_path, net):
        state = load_model(net).state_dict()
        state["2.bias"][1] = float("nan")
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(ModelError) as caught:
            load_model(net, tmp_path / "w.safetensors")
        assert str(caught.value) == "The model's '2.bias' holds 1 NaN or infinite values of 5; it cannot be explained."

    def test_other_weights(self, tmp_path, net):
        state = load_model(net).state_dict()
        state["6.weights"] = state.pop("6.weight")
        state["0.bias"] = torch.zeros(9)
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(InputError) as caught:
            load_model(net, tmp_path / "w.safetensors")
        assert str(caught.value) == (
            f"The weights of '{tmp_path / 'w.safetensors'}' do not fit the model: 1 of the model's 6 entries are "
            f"missing "
            "('6.weight'), 1 entries are not the model's ('6.weights'; did you mean '6.weight'?), '0.bias' has shape "
            "[9] "
            "where the model has [4]."
        )
