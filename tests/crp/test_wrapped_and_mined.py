"""A library does not depend on wrappers: mined from a wrapped model it explains the plain one, and the other way."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp

DATA = TensorDataset(torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(3)), torch.arange(12) % 3)


def wrapped(model: nn.Sequential, how: str) -> nn.Module:
    model = copy.deepcopy(model)
    if how == "DataParallel":
        return nn.DataParallel(model)
    if how == "compiled":
        return torch.compile(model, backend="eager")
    model[2] = torch.compile(model[2], backend="eager")
    return model


@pytest.mark.parametrize("how", ["DataParallel", "compiled", "compiled part"])
def test_a_wrapped_model_is_the_model(how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))
    models = {"plain": model.eval(), "wrapped": wrapped(model, how)}
    libraries = {
        name: crp.mine(one, DATA, layers=["0"], path=tmp_path / f"{name}.crp", patches=0, progress=False)
        for name, one in models.items()
    }
    assert libraries["wrapped"].manifest == libraries["plain"].manifest
    expected = crp.explain(model, DATA[0][0], libraries["plain"], graph=False).heatmap
    for library in libraries.values():
        for one in models.values():
            assert np.array_equal(crp.explain(one, DATA[0][0], library, graph=False).heatmap, expected)
        assert crp.verify(library, models["wrapped"], DATA).sound
