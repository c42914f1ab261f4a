"""A model that returns a dict, a tuple or an object is mined like a model that returns the selected part."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat

import crp
from crp.errors import LibraryError, ModelError
from crp.mining import add_patches
from crp.same_model import check_model

from .conftest import mined as mined_by_default


def mined(model, dataset, path, **options):
    given = {"composite": EpsilonPlusFlat(), "k": 4, "patches": 1}
    return mined_by_default(model, dataset, path, **{**given, **options})


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


WHOLE = {
    "out": lambda out, hidden: {"aux": hidden, "out": out},
    0: lambda out, hidden: (out, hidden),
    "logits": Answer,
}


class Several(nn.Module):
    """A classifier with more than one output, combined by a function of `WHOLE`."""

    def __init__(self, net, whole):
        super().__init__()
        for name, child in net.named_children():
            self.add_module(name, child)
        self.whole = whole

    def forward(self, data):
        hidden = self.pool(self.relu1(self.conv1(data)))
        hidden = self.relu2(self.conv2(hidden)).flatten(1)
        return self.whole(self.linear2(self.relu3(self.linear1(hidden))), hidden)


@pytest.mark.parametrize("name", WHOLE)
def test_a_part_of_the_output(model, dataset, name, tmp_path):
    whole = Several(model, WHOLE[name])
    part = crp.select_output(whole, name)
    plain = mined(model, dataset, tmp_path / "plain.crp", patches_now="all")
    library = mined(part, dataset, tmp_path / "part.crp", patch_concepts={"conv1": [0]})
    assert library.manifest["model"]["output"] == name
    add_patches(library, part, dataset, "conv1", [1, 2, 3], composite=EpsilonPlusFlat(), progress=False)
    for table in ("references", "statistics", "patches"):
        assert library.file("conv1", table).read_bytes() == plain.file("conv1", table).read_bytes()
    sample = dataset.tensors[0][0]
    ours, theirs = (
        crp.explain(net, sample, opened, composite=EpsilonPlusFlat())
        for net, opened in ((part, library), (model, plain))
    )
    for ours_layer, theirs_layer in zip(ours.layers, theirs.layers, strict=True):
        assert ours_layer.relevance.tolist() == theirs_layer.relevance.tolist()
    with pytest.raises(ModelError, match=r"not a tensor: select the part to explain with crp.select_output"):
        mined(whole, dataset, tmp_path / "none.crp")
    with pytest.raises(LibraryError, match=f"the part {name!r} of the model's output, and this model gives None"):
        check_model(library, model)
    with pytest.raises(ModelError, match=r"without 'outt': (did you mean|there are) "):
        mined(crp.select_output(whole, "outt"), dataset, tmp_path / "none.crp")
    assert list(whole.state_dict()) == list(part.state_dict())
    assert type(whole) is Several
