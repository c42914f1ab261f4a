"""Which data `crp atlas` lets name the mined samples: those that were mined, and no others."""

import pytest
from torch import nn, rand

import crp
from crp.cli.patch_supply import name_samples, supply
from crp.errors import LibraryError
from crp.sources import provenance


def test_only_the_data_that_were_mined_name_samples(tmp_path, monkeypatch, capsys) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    mined = [(rand(3, 8, 8), index % 2) for index in range(12)]
    library = crp.mine(model, mined, layers=["0"], path=tmp_path / "a.crp", patches=0, progress=False)
    assert library.samples is mined
    library.samples = None
    name_samples(library, trust=False)
    assert library.samples is None  # the library does not name its data
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(provenance, "data_of", _refuse)
    with pytest.raises(LibraryError, match="no data"):
        name_samples(library, data="folder", trust=False)

    def found(data):
        monkeypatch.setattr(provenance, "data_of", lambda *_, **__: data)
        library.samples = None
        name_samples(library, trust=False)
        return library.samples

    longer = [*mined, (rand(3, 8, 8), 0)]
    for data in (mined, longer):
        assert found(data) is data
    assert capsys.readouterr().err == ""
    said = "The data set cannot name the mined samples: "
    # a file that was added in front of the others would give them other names
    assert found([longer[-1], *mined]) is None
    assert capsys.readouterr().err == f"{said}its first 12 samples are not those that were mined.\n"
    assert found(mined[:-1]) is None
    assert capsys.readouterr().err == f"{said}12 samples were mined, and there are 11.\n"
    monkeypatch.setattr(provenance, "data_of", lambda *_, **__: mined)
    supply(library, model, crp.ChannelConcept(), trust=False)  # there are no patches to make
    assert library.samples is mined


def _refuse(*_, **__):
    raise LibraryError("no data")
