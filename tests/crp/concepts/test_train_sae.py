"""The autoencoder of the tutorial learns sparse sums, in the units of the activations."""

import importlib.util
from pathlib import Path

import torch

FILE = Path(__file__).parents[3] / "tutorials" / "train_sae.py"


def test_it_learns_the_directions_that_tokens_are_made_of(capsys):
    spec = importlib.util.spec_from_file_location("train_sae", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    generator = torch.Generator().manual_seed(0)
    true = torch.nn.functional.normalize(torch.randn(12, 8, generator=generator), dim=1)
    chosen = torch.rand(2000, 12, generator=generator).argsort(1) < 2  # two of twelve directions in each token
    shift = torch.arange(8.0)
    tokens = 30 * (chosen * (0.5 + torch.rand(2000, 12, generator=generator))) @ true + shift
    found = module.train(tokens, 24, 2, steps=400)
    capsys.readouterr()
    again = found.encoder(tokens, found.matrix) @ found.matrix + found.encoder.shift
    left = (again - tokens).square().sum() / (tokens - tokens.mean(0)).square().sum()
    assert float(left) < 0.1
    assert float((true @ found.matrix.T).amax(1).median()) > 0.95
