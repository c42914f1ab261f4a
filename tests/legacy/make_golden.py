"""Writes what scripts.py and scripts_mining.py find with zennit-crp 0.6.0: golden*.safetensors, golden*.json.

It runs in the environment that tests/golden/make_golden.py describes, and not from the root of the checkout:

    reference/bin/python -I tests/legacy/make_golden.py
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent


def loaded(name: str, path: Path) -> ModuleType:
    """A file of this checkout, whose root must not be on the path of a process that imports zennit-crp."""
    specification = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def newer_packages() -> None:
    """Let zennit-crp and zennit 0.5.1 run beside numpy 2 and Pillow 13."""
    import numpy
    import zennit.image

    numpy.int = int  # noqa: NPY001  (numpy had it until 1.24)
    palette = zennit.image.palette
    zennit.image.palette = lambda *given: palette(*given).tobytes()


def main() -> None:
    """Run all scripts and write the files."""
    torch.set_num_threads(1)
    loaded("compat", HERE.parents[1] / "crp" / "compat.py").import_zennit_safely()
    newer_packages()
    for package in ("tests", "tests.oracle"):
        sys.modules[package] = ModuleType(package)
    loaded("tests.oracle.nets", HERE.parent / "oracle" / "nets.py")
    record(loaded("scripts", HERE / "scripts.py"), "golden")
    mining = loaded("scripts_mining", HERE / "scripts_mining.py")
    record(mining, "golden_mining")
    mining.leave_a_run(HERE / "zennit_crp_run")


def record(scripts: ModuleType, stem: str) -> None:
    """Run the scripts of a module and write both files."""
    arrays, facts = {}, {}
    for script in scripts.ALL:
        for name, value in script().items():
            if isinstance(value, torch.Tensor):
                rows = value.flatten(1) if value.ndim > 1 else value[None]
                nothing = value.is_floating_point() and not rows.any(1).all()
                assert not nothing or "of zero" in name or "Clamped" in name, f"{name}: a row of zeros shows nothing"
                arrays[f"{script.__name__}/{name}"] = value.detach().clone(memory_format=torch.contiguous_format)
            else:
                facts[f"{script.__name__}/{name}"] = value
    save_file(arrays, HERE / f"{stem}.safetensors")
    # one line a fact
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items())
    (HERE / f"{stem}.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
