"""Two neighbours to live with: torchvision, which zennit imports, and zennit-crp, which installs a folder `crp/` too.

Both checks run before anything else is imported, and both do nothing where nothing is wrong. `old_names` serves the
names that zennit-crp's users import from modules of ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

# The operators for which torchvision registers a fake kernel even without its compiled part; their schemas.
TORCHVISION_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A torch.library.Library takes its definitions back when it is collected, so the one made here has to live on.
_kept_alive: list[object] = []


def import_zennit_safely() -> None:
    """Make `import zennit` work where a CPU build of torch meets the torchvision of PyPI.

    zennit imports torchvision. PyPI's Linux build of torchvision is compiled for CUDA; beside a CPU build of torch its
    compiled part cannot be loaded, and `import torchvision` ends with ``operator torchvision::nms does not exist``.
    Here the compiled part is loaded if it can be; if it cannot, the operators that are missing are declared (not
    implemented: box suppression then raises torchvision's own error), which is all that the import asks for.

    Nothing is done where torchvision is not installed, was imported already, or brings its operators itself.
    Who imports torchvision before the first import of `crp.attribution` gets no cure: then the import that fails is not
    ours, and a half-imported torchvision cannot be repaired. `import crp.attribution` first, or a matching torchvision.
    """
    if "torchvision" in sys.modules:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or _compiled_part_loads(spec):
        return

    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    _kept_alive.append(library)
    for name, schema in TORCHVISION_OPERATORS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)


def _compiled_part_loads(spec: ModuleSpec) -> bool:
    """Let torchvision load its compiled operators as it does itself, without the rest of `import torchvision`.

    What the file is called is left to torchvision: 0.29 renamed it. To declare an operator that a file defines after
    all would end the process.
    """
    # a package that was not run, as a place for its submodule
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(f"{spec.name}.extension")._has_ops()
    except RuntimeError:  # loaded, but made for another CUDA than torch: the real import will say so
        return True
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == spec.name]:
            del sys.modules[name]


def refuse_zennit_crp() -> None:
    """Stop where zennit-crp is installed into the same folder `crp/` as this package.

    The two distributions overwrite one another's files, and uninstalling one takes files of the other away. An editable
    install or a checkout, whose `crp/` is its own folder, is not in conflict and passes.

    Raises
    ------
    ImportError
        With the two commands that repair the installation, in the order in which they work.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        other = distribution("zennit-crp")
    except PackageNotFoundError:
        return
    if Path(str(other.locate_file("crp"))).resolve() == Path(__file__).resolve().parent:
        raise ImportError(
            f"zennit-crp {other.version} is installed in the same folder 'crp' as crp-atlas, and each overwrites files "
            "of the other: run 'pip uninstall zennit-crp' first, "
            "then 'pip install --force-reinstall --no-deps crp-atlas'; code written for zennit-crp runs on crp-atlas."
        )


# zennit-crp's names that its users import from modules of ours: module -> name -> where it is. No other module of the
# core names `crp.legacy`.
OLD_NAMES: dict[str, dict[str, str]] = {
    "crp.attribution": dict.fromkeys(
        ("CondAttribution", "AttributionGraph", "attrGraphResult"), "crp.legacy.cond_attribution"
    ),
    "crp.concepts": {"Concept": "crp.legacy.concept_base"},
    "crp.visualization": {"FeatureVisualization": "crp.legacy.feature_visualization"},
    "crp.helper": dict.fromkeys(("load_maximization", "load_statistics", "load_stat_targets"), "crp.legacy.stored"),
}


def old_names(module: str) -> Callable[[str], object]:
    """Make the `__getattr__` (PEP 562) of a module that also has names of zennit-crp, loaded on first use.

    Parameters
    ----------
    module
        The module's `__name__`, a key of `OLD_NAMES`.
    """

    def load(name: str) -> object:
        homes = OLD_NAMES[module]
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[module], name, value)
        return value

    return load
