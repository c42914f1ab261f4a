"""Workarounds for other packages, and the names of zennit-crp.

- `import_zennit_safely`: torchvision, which zennit imports, beside a CPU build of torch and without torch's compiler;
- `refuse_zennit_crp`: zennit-crp, which installs a folder `crp/` as well;
- `accept_old_zennit_calls`: code for the older zennit that zennit-crp pins;
- `old_names`: what zennit-crp's users import from our modules.

The first two run before anything else is imported. Where nothing is wrong, they do nothing.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

# Operators for which torchvision registers a fake kernel even without its compiled part, with their schemas.
TORCHVISION_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A torch.library.Library removes its definitions when it is collected, so this one has to stay alive.
_kept_alive: list[object] = []


def import_zennit_safely() -> None:
    """Make `import zennit` work where a CPU build of torch meets the torchvision of PyPI, and make it fast.

    zennit imports torchvision. PyPI's Linux build of torchvision is compiled for CUDA; beside a CPU build of torch its
    compiled part cannot be loaded, and `import torchvision` ends with ``operator torchvision::nms does not exist``.
    This function loads the compiled part if possible. Otherwise it declares the missing operators, which is all that
    the import needs. They are not implemented: box suppression then raises torchvision's own error.

    Half of the time of `import torchvision` goes to torch's compiler, of which it needs one function, and only where
    its compiled part is missing. That function is loaded when it is called.

    Nothing is done if torchvision is not installed, is already imported, or has its operators. The workaround has no
    effect if torchvision is imported before `crp.attribution`, because a half-imported torchvision cannot be repaired:
    import `crp.attribution` first, or install a matching torchvision.
    """
    if "torchvision" in sys.modules:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None:
        return
    if not any(isinstance(finder, _RoiAlignFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RoiAlignFinder())
    if _compiled_part_loads(spec):
        return

    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    _kept_alive.append(library)
    for name, schema in TORCHVISION_OPERATORS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)


def _compiled_part_loads(spec: ModuleSpec) -> bool:
    """Let torchvision load its compiled operators, without the rest of `import torchvision`.

    Torchvision itself finds the file, whose name changed in 0.29. Declaring an operator that the file also defines
    would end the process.
    """
    # an empty package, as the parent of its submodule
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(f"{spec.name}.extension")._has_ops()
    except RuntimeError:  # built for another CUDA version than torch: the real import will report it
        return True
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == spec.name]:
            del sys.modules[name]


_COMPILER = "torch._dynamo.utils"


class _RoiAlignFinder(MetaPathFinder):
    """Finds the module of torchvision that imports torch's compiler."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != "torchvision.ops.roi_align":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _WithoutCompiler(fullname, spec.loader.path)
        return spec


class _WithoutCompiler(SourceFileLoader):
    """Runs a module that takes `is_compile_supported` from torch's compiler, without loading the compiler.

    While it runs, a small module stands in for the compiler's, and gets whatever else is asked of it from there.
    """

    def exec_module(self, module: ModuleType) -> None:
        if _COMPILER in sys.modules:
            super().exec_module(module)
            return
        small = ModuleType(_COMPILER)

        def compiler(name: str) -> object:
            if name.startswith("__"):  # the import system asks for __path__
                raise AttributeError(name)
            if sys.modules.get(_COMPILER) is small:
                del sys.modules[_COMPILER]
            return getattr(importlib.import_module(_COMPILER), name)

        def is_compile_supported(device_type: str) -> bool:
            return compiler("is_compile_supported")(device_type)

        small.__getattr__ = compiler
        small.is_compile_supported = is_compile_supported
        sys.modules[_COMPILER] = small
        try:
            super().exec_module(module)
        finally:
            if sys.modules.get(_COMPILER) is small:
                del sys.modules[_COMPILER]


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


def accept_old_zennit_calls() -> None:
    """Let code for the zennit of zennit-crp (0.4.6 at most) run with the zennit that is needed here (0.5.1 at least).

    zennit 0.5 put other arguments before `canonizers`, and replaced the list `LAYER_MAP_BASE` by the function
    `layer_map_base`. Here the list is put back, and canonizers are accepted at their old place. No call that zennit 0.5
    accepts changes its meaning: a list of canonizers is no valid value of the arguments that are at that place now.
    """
    from zennit import composites

    if hasattr(composites, "LAYER_MAP_BASE"):
        return
    composites.LAYER_MAP_BASE = composites.layer_map_base()
    for name in _OLD_COMPOSITES:
        kind = getattr(composites, name)
        kind.__init__ = _accepting_canonizers(kind.__init__, 2 if name == "EpsilonGammaBox" else 0)


_OLD_COMPOSITES = (
    "DeconvNet",
    "EpsilonAlpha2Beta1",
    "EpsilonAlpha2Beta1Flat",
    "EpsilonGammaBox",
    "EpsilonPlus",
    "EpsilonPlusFlat",
    "ExcitationBackprop",
    "GuidedBackprop",
)


def _accepting_canonizers(initialise: Callable[..., None], place: int) -> Callable[..., None]:
    from zennit.canonizers import Canonizer

    def is_canonizers(given: object) -> bool:
        several = isinstance(given, list | tuple)
        return given is None or (several and all(isinstance(each, Canonizer) for each in given))

    @functools.wraps(initialise)
    def accepting(self: object, *args: object, **options: object) -> None:
        if len(args) == place + 1 and is_canonizers(args[place]):
            args, options = args[:place], {"canonizers": args[place], **options}
        initialise(self, *args, **options)

    return accepting


# All that `from MODULE import *` gave with zennit-crp, and that scripts take from its modules: what it defined there,
# and what it had imported for itself. `tests/legacy/make_inventory.py` lists the names of its wheel.
OLD_NAMES: dict[str, tuple[str, ...]] = {
    module: tuple(names.split())
    for module, names in {
        "crp.attribution": """
            AttributionGraph Callable ChannelConcept Composite Concept CondAttribution Dict List MaskHook ModelGraph
            NameMapComposite Tuple Union attrGraphResult attrResult math namedtuple np torch tqdm warnings""",
        "crp.cache": "Any Cache Dict Image ImageCache List Path Tuple Union",
        "crp.concepts": "ChannelConcept Concept Dict List np torch",
        "crp.graph": "GraphNode List ModelGraph dump_pytorch_graph torch trace_model_graph",
        "crp.helper": """
            List Path abs_norm find_files get_layer_names get_output_shapes load_maximization load_receptive_field
            load_stat_targets load_statistics max_norm np os torch""",
        "crp.hooks": "FeatVisHook MaskHook RemovableHandle RemovableHandleList functools torch weakref",
        "crp.image": """
            Any Dict Image Iterable List Tuple Union gaussian_blur get_crop_range gridspec imgify max_norm np plot_grid
            plt torch vis_img_heatmap vis_opaque_img zimage""",
        "crp.maximization": "Concept List Maximization Path Tuple gc np os re torch tqdm",
        "crp.statistics": "List Path Statistics Tuple gc np os torch tqdm",
        "crp.visualization": """
            Cache Callable ChannelConcept Composite Concept CondAttribution Dict FeatVisHook FeatureVisualization
            Iterable List Maximization NameMapComposite Statistics Tuple Union concurrent functools inspect
            load_maximization load_stat_targets load_statistics math np torch tqdm vis_img_heatmap vis_opaque_img
            warnings""",
    }.items()
}

# The modules of names that their old module does not define. No other module of the core names `crp.legacy`.
_HOMES = {
    "collections": "namedtuple",
    "crp.cache": "Cache",
    "crp.concepts": "ChannelConcept",
    "crp.graph": "ModelGraph",
    "crp.helper": "max_norm",
    "crp.hooks": "FeatVisHook MaskHook",
    "crp.image": "vis_img_heatmap vis_opaque_img",
    "crp.legacy.attribution_graph": "AttributionGraph attrGraphResult",
    "crp.legacy.concept_base": "Concept",
    "crp.legacy.cond_attribution": "CondAttribution",
    "crp.legacy.feature_visualization": "FeatureVisualization",
    "crp.legacy.stored": "load_maximization load_stat_targets load_statistics",
    "crp.maximization": "Maximization",
    "crp.statistics": "Statistics",
    "pathlib": "Path",
    "torchvision.transforms.functional": "gaussian_blur",
    "tqdm": "tqdm",
    "typing": "Any Callable Dict Iterable List Tuple Union",
    "zennit.composites": "NameMapComposite",
    "zennit.core": "Composite RemovableHandle RemovableHandleList",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

# Modules under another name.
_MODULES = {
    "Image": "PIL.Image",
    "gridspec": "matplotlib.gridspec",
    "np": "numpy",
    "plt": "matplotlib.pyplot",
    "zimage": "zennit.image",
}


def old_names(module: str) -> Callable[[str], object]:
    """Make the `__getattr__` (PEP 562) of a module that has names of zennit-crp, loaded on first use.

    Parameters
    ----------
    module
        The module's `__name__`, a key of `OLD_NAMES`.
    """

    def load(name: str) -> object:
        if name not in OLD_NAMES[module]:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if name in _HOME_OF:
            value = getattr(importlib.import_module(_HOME_OF[name]), name)
        else:
            value = importlib.import_module(_MODULES.get(name, name))
        setattr(sys.modules[module], name, value)
        return value

    return load


def as_patched(name: str, ours: object) -> object:
    """Return what a script has assigned to a name of `crp.visualization`, or `ours`.

    zennit-crp's `FeatureVisualization` looks up its parts there, so scripts replace them there.
    """
    return vars(sys.modules.get("crp.visualization", object)).get(name, ours)
