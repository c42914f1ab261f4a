"""Rules about the use of concepts, in tests and in trainings: what `crp diff --fail-if` says of a mined checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp
from crp import InputError, LibraryError
from crp.analysis import difference, failures, lightning_callback
from crp.library import Library
from crp.library.fingerprints import weights_fingerprint
from tests.crp.analysis.test_differing import permuted, without_tag
from tests.crp.correction.planted import planted_data, planted_model

TAG_RULE = "second uses conv/0 > 5%"
DATA = TensorDataset(*planted_data(60))


def mined(path: Path, model: nn.Module, data: object = DATA, **given: object) -> Library:
    settings = dict(layers=["conv"], vectors=True, patches=0, progress=False, class_names=["first", "second"])
    return crp.mine(model, data, path=path, **{**settings, **given})


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return mined(tmp_path_factory.mktemp("rules") / "a.crp", planted_model(), block_size=16, targets="prediction")


def test_a_checkpoint_is_said_to_break_a_rule_as_a_mined_library_is(reference: Library, tmp_path: Path) -> None:
    model = permuted(planted_model())
    before = weights_fingerprint(model)
    (sentence,) = failures(model, reference, DATA, [TAG_RULE, "first uses conv/0 > 5%"])
    assert weights_fingerprint(model) == before
    other = mined(tmp_path / "b.crp", model, block_size=16, targets="prediction")
    assert sentence == difference(reference, other).holds(TAG_RULE)
    assert failures(without_tag(planted_model()), reference, DATA, [TAG_RULE]) == []


def test_mistakes_are_said_before_mining(reference: Library, tmp_path: Path) -> None:
    broken = nn.Identity()  # mining it would fail in other words
    with pytest.raises(InputError, match="A rule has the form"):
        failures(broken, reference, DATA, ["second uses the tag"])
    with pytest.raises(InputError, match="'third'"):
        failures(broken, reference, DATA, ["third uses conv/0 > 5%"])
    composite = crp.composite_for(planted_model(), rules="epsilon-plus-flat").composite
    own = mined(tmp_path / "c.crp", planted_model(), composite=composite)
    with pytest.raises(InputError, match="was mined with a composite of the caller"):
        failures(broken, own, DATA, [TAG_RULE])
    chosen = mined(tmp_path / "d.crp", planted_model(), targets=lambda prediction, labels: prediction.argmax(1))
    with pytest.raises(InputError, match="pass that as targets="):
        failures(broken, chosen, DATA, [TAG_RULE])
    with pytest.raises(LibraryError, match="other samples"):
        failures(planted_model(), reference, TensorDataset(*planted_data(40)), [TAG_RULE])


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module with the name of Lightning's callbacks in its place."""
    module = ModuleType("lightning.pytorch.callbacks")
    module.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", ModuleType("lightning.pytorch"))
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("stop", [False, True])
def test_the_callback_logs_and_stops(reference: Library, stop: bool) -> None:
    trained = nn.Module()
    trained.net, logged = planted_model(), {}
    trained.log = logged.__setitem__
    trainer = SimpleNamespace(sanity_checking=True, should_stop=False)
    callback = lightning_callback(reference, DATA, [TAG_RULE], network=lambda module: module.net, stop=stop)
    callback.on_validation_epoch_end(trainer, trained)
    assert (logged, callback.sentences) == ({}, [])
    trainer.sanity_checking = False
    callback.on_validation_epoch_end(trainer, trained)
    assert logged == {"concept_failures": 1.0}
    assert callback.sentences[0].startswith("The class 'second' uses conv/0 with a mean share of")
    assert trainer.should_stop == stop
    trained.net = without_tag(planted_model())
    trainer.should_stop = False
    callback.on_validation_epoch_end(trainer, trained)
    assert (logged, callback.sentences, trainer.should_stop) == ({"concept_failures": 0.0}, [], False)


def test_lightning_is_asked_for_only_when_it_is_used(monkeypatch: pytest.MonkeyPatch, reference: Library) -> None:
    monkeypatch.setitem(sys.modules, "lightning.pytorch.callbacks", None)
    monkeypatch.setitem(sys.modules, "lightning", None)
    assert failures(without_tag(planted_model()), reference, DATA, [TAG_RULE]) == []
    with pytest.raises(InputError, match=r"^The callback needs lightning: pip install lightning\.$"):
        lightning_callback(reference, DATA, [TAG_RULE])


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders and loggers
def test_a_training_of_lightning(reference: Library, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="the callback in a real training needs lightning")

    class Trained(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = planted_model().train()

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
            """Nothing to add: the callback logs."""

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.net.parameters(), lr=1e-6)

    callback = lightning_callback(reference, DATA, [TAG_RULE], network=lambda module: module.net, stop=True)
    loader = torch.utils.data.DataLoader(DATA, batch_size=20)
    trainer = lightning.Trainer(
        max_epochs=5, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    module = Trained()
    trainer.fit(module, loader, loader)
    assert trainer.current_epoch == 1  # stopped after the first
    assert float(trainer.callback_metrics["concept_failures"]) == 1
    assert module.net.training
