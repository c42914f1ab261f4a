"""What a library stores about its model and data, and how the model is loaded again from it."""

import pytest
import torch

from crp.errors import LibraryError
from crp.library.fingerprints import weights_fingerprint
from crp.sources import load_model
from crp.sources.provenance import model_of, origin


class Mined:
    """Stands for a library in the questions asked here: what its manifest says, and which model it was mined with."""

    path = "mined.crp"

    def __init__(self, source, weights=""):
        self.manifest = {"source": source, "model": {"weights": weights}}


class TestOrigin:
    def stored(self, tmp_path, net):
        torch.save({name: value * 0 for name, value in load_model(net).state_dict().items()}, tmp_path / "w.pt")
        return origin(net, str(tmp_path), str(tmp_path / "w.pt"), ["crp", "mine"])

    def test_a_relative_file_is_found_from_elsewhere(self, tmp_path, net, monkeypatch):
        monkeypatch.chdir(tmp_path)
        source = origin("net.py:make", ".", None, ["crp", "mine"])
        assert source == {"model": net, "data": str(tmp_path), "weights": None, "command": ["crp", "mine"]}

    def test_a_folder_named_like_the_built_in_model_does_not_stand_for_it(self, tmp_path, monkeypatch):
        """`crp demo --out demo` makes one."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "demo").mkdir()
        source = origin("demo", "demo", None, ["crp", "mine"])
        assert (source["model"], source["data"]) == ("demo", "demo")
        fingerprint = weights_fingerprint(load_model("demo"))
        assert weights_fingerprint(model_of(Mined(source, fingerprint))) == fingerprint

    def test_code_runs_only_when_named_again_or_trusted(self, tmp_path, net):
        library = Mined(self.stored(tmp_path, net))
        with pytest.raises(LibraryError) as caught:
            model_of(library)
        assert str(caught.value) == (
            f"The library 'mined.crp' names the model '{net}', which is code that is not run without your consent; "
            f"give --model '{net}', or --trust if you trust the library."
        )
        zeros = load_model(net, tmp_path / "w.pt")
        library.manifest["model"]["weights"] = weights_fingerprint(zeros)
        models = [model_of(library, trust=True), model_of(library, model=net)]
        assert all((value == 0).all() for model in models for value in model.state_dict().values())
        library.manifest["model"]["weights"] = "of another model"
        for named in ({"trust": True}, {"model": net}):
            with pytest.raises(LibraryError, match=r"^The library 'mined\.crp' was mined with other weights"):
                model_of(library, **named)

    def test_changed_weights_are_refused(self, tmp_path, net):
        library = Mined(self.stored(tmp_path, net))
        torch.save(load_model(net).state_dict(), tmp_path / "w.pt")
        with pytest.raises(LibraryError, match=r"w\.pt' has changed since the library 'mined\.crp' was mined; give"):
            model_of(library, trust=True)
        (tmp_path / "w.pt").unlink()
        with pytest.raises(
            LibraryError, match=r"w\.pt' that the library 'mined\.crp' names does not exist; give --weights FILE\."
        ):
            model_of(library, trust=True)

    @pytest.mark.parametrize("source", [None, 3, {}, {"model": 3}])
    def test_a_library_that_names_no_model(self, source):
        with pytest.raises(LibraryError, match=r"does not name the model it was mined with; give it with --model\."):
            model_of(Mined(source), trust=True)
