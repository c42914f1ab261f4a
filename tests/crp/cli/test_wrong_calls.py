"""Wrong calls in Python: each ends in one clear sentence, and leaves every file as it was.

In the sentences "…" stands for words that are not ours (the system's, Pillow's, torch's) or that depend on the machine.
"""

import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import crp
from crp.attribution import ConditionalAttribution, RelevanceFlow
from crp.errors import CrpError, InputError, LibraryError, ModelError, SampleError
from crp.mining import add_patches
from crp.sources import load_data

from .conftest import OTHER_WEIGHTS, Shop, check


@dataclass(frozen=True)
class Desk:
    """What the Python calls below are made with."""

    net: ModuleType
    model: nn.Module
    data: Any
    library: crp.library.Library
    sample: torch.Tensor

    def mine(self, data: Any = None, model: Any = None, **changed: Any) -> Any:
        """Mine with everything right but what is given."""
        settings = {"layers": ["0"], "path": "x.crp", "patches": 1, "progress": False, **changed}
        return crp.mine(model or self.model, self.data if data is None else data, **settings)

    def explain(self, image: Any = None, model: Any = None, **changed: Any) -> Any:
        """Explain with everything right but what is given."""
        return crp.explain(model or self.model, self.sample[0] if image is None else image, self.library, **changed)

    def flow(self, data: Any = None, layers: Any = ()) -> RelevanceFlow:
        """Open a flow."""
        composite = crp.composite_for(self.model).composite
        return RelevanceFlow(self.model, composite, self.sample if data is None else data, layers).__enter__()

    def attribute(self, *conditions: dict) -> Any:
        """One conditional attribution."""
        composite = crp.composite_for(self.model).composite
        return ConditionalAttribution(self.model)(self.sample, list(conditions), composite)

    def add_patches(self, model: Any = None, data: Any = None, concepts: Any = (0,)) -> None:
        """Add patches to the library."""
        add_patches(self.library, model or self.model, data or self.data, "0", concepts, progress=False)


@pytest.fixture
def desk(spoilt: Shop, monkeypatch: pytest.MonkeyPatch) -> Desk:
    spec = importlib.util.spec_from_file_location("shop_net", spoilt.folder / "net.py")
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    monkeypatch.chdir(spoilt.folder)
    sample = torch.full((1, 3, 12, 12), 0.5)
    return Desk(net, net.make().eval(), load_data("photos"), crp.open_library("mined.crp"), sample)


def pairs(*shapes: tuple[int, ...], label: Any = 0) -> list[tuple[torch.Tensor, Any]]:
    """A data set in memory: a list is map-style."""
    return [(torch.full(shape, 0.5), label) for shape in shapes]


SQUARE = (3, 12, 12)
NO_CONCEPT = "layer '0' has the concepts 0 to 3."
NO_CLASS = "the model's output has the classes 0 to 2."
NOT_MAP_STYLE = "whose samples cannot be read by index; a map-style data set with __len__ and __getitem__ is needed."

CALLS = [
    # mine
    ("no layers", lambda at: at.mine(layers=[]), InputError, "No layers are given; at least one is needed."),
    ("no such layer", lambda at: at.mine(layers=["00"]), InputError, "The model has no layer '00': did you mean '0'?"),
    (
        "concept 9999",
        lambda at: at.mine(patch_concepts={"0": [9999]}),
        InputError,
        f"There is no concept 9999: {NO_CONCEPT}",
    ),
    ("k 0", lambda at: at.mine(k=0), InputError, "k is 0; it must be a whole number of at least 1."),
    (
        "half a block",
        lambda at: at.mine(block_size=2.5),
        InputError,
        "block_size is 2.5; it must be a whole number of at least 1.",
    ),
    (
        "no such score",
        lambda at: at.mine(relevance_score="summ"),
        InputError,
        "There is no score 'summ': did you mean 'sum'?",
    ),
    ("no such rule", lambda at: at.mine(targets="labels"), InputError, "There is no target rule 'labels': did you …"),
    (
        "class beyond the output",
        lambda at: at.mine(targets=lambda prediction, labels: labels + 9),
        SampleError,
        "Sample 0 ('ant/0.png') is to be explained for class 9, but the model has the classes 0 to 2.",
    ),
    (
        "too few class names",
        lambda at: at.mine(class_names=["ant"]),
        InputError,
        "There are 1 class names, and the model has 3 classes.",
    ),
    (
        "iterable data set",
        lambda at: at.mine(at.net.Stream()),
        InputError,
        f"The data set is a Stream, {NOT_MAP_STYLE}",
    ),
    ("empty data set", lambda at: at.mine([]), InputError, "The data set is empty; at least one sample is needed."),
    ("no label", lambda at: at.mine([torch.ones(SQUARE)]), SampleError, "Sample 0 has no label; …'prediction'…"),
    (
        "label -1",
        lambda at: at.mine(pairs(SQUARE, label=-1)),
        SampleError,
        "Sample 0 has label -1, but the model has the classes 0 to 2.",
    ),
    (
        "half a label",
        lambda at: at.mine(pairs(SQUARE, label=0.5)),
        SampleError,
        "Sample 0 has the label 0.5, which is not a whole number, a list of them, or a vector of 0 and 1.",
    ),
    (
        "unequal samples",
        lambda at: at.mine(pairs(SQUARE, (3, 13, 12))),
        SampleError,
        "Sample 1 is torch.float32 of shape [3, 13, 12], sample 0 is torch.float32 of shape [3, 12, 12]; all samples "
        "must be alike.",
    ),
    (
        "no tensor",
        lambda at: at.mine(["picture.png"]),
        SampleError,
        "Sample 0 is a str; a float tensor or a picture is needed, alone, with a label, or in a dict.",
    ),
    ("1 x 1", lambda at: at.mine(pairs((3, 1, 1))), ModelError, "The model cannot run … of shape [1, 3, 1, 1]: …"),
    ("one channel", lambda at: at.mine(pairs((1, 12, 12))), ModelError, "The model … of shape [1, 1, 12, 12]: …"),
    (
        "not finite",
        lambda at: at.mine([(torch.full(SQUARE, float("inf")), 0)]),
        SampleError,
        "Sample 0 holds NaN or infinite values.",
    ),
    ("NaN weights", lambda at: at.mine(model=at.net.not_finite()), ModelError, "The model's '2.weight' holds 1 NaN …"),
    (
        "grey preprocessing",
        lambda at: at.mine(preprocessing=crp.Preprocessing(mode="L")),
        InputError,
        "An input of mode 'L' has shape [1, H, W], not [3, 12, 12].",
    ),
    ("path taken", lambda at: at.mine(path="mined.crp"), LibraryError, "The library 'mined.crp' exists: choose …"),
    # the library
    ("no library", lambda at: crp.open_library("photos"), LibraryError, "'photos' is not a library: …"),
    (
        "its layer",
        lambda at: at.library.shape("1"),
        InputError,
        "The library does not hold layer '1': there are '0', '2'.",
    ),
    (
        "its concept",
        lambda at: at.library.patches("0", 9999, "relevance"),
        InputError,
        f"There is no concept 9999: {NO_CONCEPT}",
    ),
    (
        "its mode",
        lambda at: at.library.references("0", "relmax"),
        InputError,
        "There is no mode 'relmax': there are 'relevance', 'activation', 'negative'.",
    ),
    (
        "truncated",
        lambda at: crp.open_library("cut.crp").patches("2", 0, "relevance"),
        LibraryError,
        "'…' is damaged …",
    ),
    ("patches of 99", lambda at: at.add_patches(concepts=[99]), InputError, f"There is no concept 99: {NO_CONCEPT}"),
    ("patches, other model", lambda at: at.add_patches(at.net.other()), LibraryError, OTHER_WEIGHTS),
    (
        "patches, other data",
        lambda at: at.add_patches(data=load_data("photos/ant")),
        LibraryError,
        "This is not the data set that was mined: its length is 2, and the library has 6.",
    ),
    # explain
    ("other model", lambda at: at.explain(model=at.net.other()), LibraryError, OTHER_WEIGHTS),
    ("missing picture", lambda at: at.explain("none.png"), InputError, "There is no picture file 'none.png'."),
    (
        "two pictures",
        lambda at: at.explain(torch.zeros(2, 3, 12, 12)),
        InputError,
        "One image is a tensor [c, H, W] or [1, c, H, W], given [2, 3, 12, 12].",
    ),
    (
        "float array",
        lambda at: at.explain(np.zeros((12, 12))),
        InputError,
        "A picture array is uint8 [H, W, 3], [H, W, 1] or [H, W], not float64 [12, 12].",
    ),
    ("class -1", lambda at: at.explain(target=-1), InputError, f"There is no class -1: {NO_CLASS}"),
    ("class ants", lambda at: at.explain(target="ants"), InputError, "There is no class 'ants': did you mean 'ant'?"),
    (
        "no concepts",
        lambda at: at.explain(concepts=0),
        InputError,
        "concepts is 0; it must be a whole number of at least 1.",
    ),
    ("no cells", lambda at: at.explain(cells=0), InputError, "cells is 0; it must be a whole number of at least 1."),
    (
        "NaN picture",
        lambda at: at.explain(torch.full(SQUARE, float("nan"))),
        ModelError,
        "The model's output is not finite (NaN or infinite) for this input.",
    ),
    (
        "atlas as bitmap",
        lambda at: crp.atlas(at.model, at.sample[0], at.library).save("a.bmp"),
        InputError,
        "'a.bmp': an atlas is saved as '.html', '.png', '.pdf', '.svg', '.json', '.csv', '.dot', not as '.bmp'.",
    ),
    (
        "atlas into nothing",
        lambda at: crp.atlas(at.model, at.sample[0], at.library).save("no/a.json"),
        InputError,
        "'no/a.json': the folder 'no' does not exist.",
    ),
    # attribution
    ("flow, layer", lambda at: at.flow(layers=["10"]), InputError, "The model has no layer '10': did you mean …"),
    ("flow, class", lambda at: at.flow().output_relevance([-1]), InputError, f"There is no class -1: {NO_CLASS}"),
    (
        "condition, concept",
        lambda at: at.attribute({"y": [0], "0": [9999]}),
        InputError,
        f"There is no concept 9999: {NO_CONCEPT}",
    ),
    (
        "condition, layer",
        lambda at: at.attribute({"y": [0], "00": [1]}),
        InputError,
        "The model has no layer '00': did you mean '0'?",
    ),
    ("condition, class", lambda at: at.attribute({"y": [3]}), InputError, f"There is no class 3: {NO_CLASS}"),
    ("no condition", lambda at: at.attribute(), InputError, "Conditions are a list … or more, given an empty list."),
]


@pytest.mark.parametrize(("call", "kind", "sentence"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
def test_in_python(spoilt: Shop, desk: Desk, call: Any, kind: type[CrpError], sentence: str) -> None:
    before = spoilt.files()
    with pytest.raises(kind) as caught:
        call(desk)
    check(str(caught.value), sentence)
    assert spoilt.files() == before


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions of POSIX")
def test_a_folder_that_may_not_be_written(desk: Desk) -> None:
    """Also where the tests run as root, who may write everywhere."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    atlas = crp.atlas(desk.model, desk.sample[0], desk.library)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(LibraryError) as caught:
            desk.mine(pairs(SQUARE), path=folder / "x.crp")
        with pytest.raises(InputError) as caught_atlas:
            atlas.save(folder / "a.json")
    finally:
        os.seteuid(user)
        left = list(folder.iterdir())
        folder.rmdir()
    check(str(caught.value), f"No library can be written to '{folder}/x.crp': Permission denied ('…').")
    check(str(caught_atlas.value), f"'{folder}/a.json' cannot be written: Permission denied.")
    assert left == []
