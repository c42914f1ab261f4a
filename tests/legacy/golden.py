"""What zennit-crp gave for scripts.py and scripts_mining.py (make_golden.py), and the comparison with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.oracle.comparing import assert_relevance_close

_HERE = Path(__file__).parent
# recorded with zennit 0.5.1, in float64
TOLERANCE = 1e-9 if version("zennit") == "0.5.1" else 1e-6


def assert_as_recorded(script: Callable[[], dict], *, but: tuple[str, ...] = ()) -> dict:
    """Run a script against ours, and compare all that it finds with what zennit-crp gave.

    Parameters
    ----------
    script
        A function of scripts.py or scripts_mining.py.
    but
        Beginnings of the names that are not compared: where zennit-crp is wrong.

    Returns
    -------
    dict
        What ours found.
    """
    recorded: dict = {}
    for stem in ("golden", "golden_mining"):
        recorded |= load_file(_HERE / f"{stem}.safetensors") | json.loads((_HERE / f"{stem}.json").read_text())
    prefix = f"{script.__name__}/"
    expected = {name.removeprefix(prefix): value for name, value in recorded.items() if name.startswith(prefix)}
    found = script()
    compared = {name for name in expected if not name.startswith(but or ("\0",))}
    assert compared <= set(found)
    assert {name for name in found if not name.startswith(but or ("\0",))} == compared
    for name in compared:
        if isinstance(expected[name], torch.Tensor) and expected[name].is_floating_point():
            assert_relevance_close(found[name], expected[name], TOLERANCE)
        elif isinstance(expected[name], torch.Tensor):
            assert torch.equal(found[name], expected[name]), name
        else:
            # as JSON holds it: tuples are lists
            assert json.loads(json.dumps(found[name])) == expected[name], name
    return found
