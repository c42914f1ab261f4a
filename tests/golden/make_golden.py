"""Writes zennit_crp.safetensors and zennit_crp.json beside this file: what zennit-crp 0.6.0 gives.

zennit-crp owns the import name `crp`, so this runs in an environment of its own, and not from the root of the checkout:

    python -m venv reference
    reference/bin/python -m pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
    reference/bin/python -m pip install zennit-crp==0.6.0 safetensors
    reference/bin/python -m pip install --no-deps zennit==0.5.1   # over its pin: 0.4.6 has other Gamma and ZBox rules
    reference/bin/python -I tests/golden/make_golden.py

The tests build the same models from the same seeds (`cases.py`, which both sides load), and check the weights by their
checksum. Relevance at masked layers is left out: zennit-crp records it after the mask since torch 2, and counts it
twice where parallel paths are excluded. Everything is computed in float64 and stored in float32. Computed in float32,
it would depend on the processor, the number of threads and the version of oneDNN: a heatmap of VGG16, whose logits are
small differences of large sums, by 6e-5 of its largest value.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path

import torch

# torchvision as PyPI builds it does not import beside a CPU build of torch
_library = torch.library.Library("torchvision", "FRAGMENT")
for _schema in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    if not hasattr(torch.ops.torchvision, _schema.partition("(")[0]):
        _library.define(_schema)

from safetensors.torch import save_file  # noqa: E402  (after the declaration above)

from crp.attribution import CondAttribution  # noqa: E402
from crp.concepts import ChannelConcept  # noqa: E402
from crp.helper import load_maximization  # noqa: E402
from crp.visualization import FeatureVisualization  # noqa: E402

HERE = Path(__file__).parent


def _cases():
    specification = importlib.util.spec_from_file_location("cases", HERE / "cases.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules["cases"] = module
    specification.loader.exec_module(module)
    return module


def attributions(cases, arrays: dict) -> None:
    """Run every case of `cases.ATTRIBUTIONS`, in float64, and keep the results in float32."""
    for name in cases.MODELS:
        attribution = CondAttribution(cases.model(name))
        for case in cases.ATTRIBUTIONS[name]:
            data = cases.images(case.samples).requires_grad_()
            if case.batch_size:
                parts = list(
                    attribution.generate(
                        data,
                        case.conditions,
                        cases.composite(name),
                        record_layer=list(case.record),
                        batch_size=case.batch_size,
                        exclude_parallel=case.exclude_parallel,
                        verbose=False,
                    )
                )
                heatmap = torch.cat([part.heatmap for part in parts])
                relevances = {layer: torch.cat([part.relevances[layer] for part in parts]) for layer in case.record}
            else:
                result = attribution(
                    data,
                    case.conditions,
                    cases.composite(name),
                    record_layer=list(case.record),
                    start_layer=case.start_layer,
                    init_rel=case.init(),
                    exclude_parallel=case.exclude_parallel,
                )
                heatmap, relevances = result.heatmap, result.relevances
            key = f"{name}/{case.name}"
            arrays[f"{key}/heatmap"] = heatmap.detach().float()
            for layer in case.record:
                # every seventh number keeps the file small
                arrays[f"{key}/{layer}"] = relevances[layer].detach().flatten()[::7].float()


class _Samples(torch.utils.data.Dataset):
    """The images and labels of `cases`, as FeatureVisualization takes them."""

    def __init__(self, images, labels) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], int(self.labels[index])


def mined(cases, arrays: dict) -> None:
    """Run RelMax and ActMax over `cases.mining_samples()` for every choice of score."""
    for name, layers in cases.MINED.items():
        model = cases.model(name)
        dataset = _Samples(*cases.mining_samples(name))
        for target in ("sum", "max"):
            for divided in (True, False):
                with tempfile.TemporaryDirectory() as folder:
                    found = FeatureVisualization(
                        CondAttribution(model),
                        dataset,
                        {layer: ChannelConcept() for layer in layers},
                        max_target=target,
                        abs_norm=divided,
                        path=folder,
                    )
                    found.run(cases.composite(name), 0, len(dataset), batch_size=10)
                    for mode, store in (("relevance", found.RelMax), ("activation", found.ActMax)):
                        for layer in layers:
                            samples, scores, _ = load_maximization(store.PATH, layer)
                            key = f"mined/{name}/{layer}/{mode}/{target}/{'divided' if divided else 'plain'}"
                            chosen = list(range(cases.MINED_CHANNELS))
                            arrays[f"{key}/sample"] = torch.from_numpy(samples[:, chosen].copy()).to(torch.uint8)
                            arrays[f"{key}/score"] = torch.from_numpy(scores[:, chosen].copy()).float()


def main() -> None:
    """Write both files."""
    torch.set_num_threads(1)
    cases = _cases()
    arrays: dict[str, torch.Tensor] = {}
    attributions(cases, arrays)
    mined(cases, arrays)
    save_file({name: array.contiguous() for name, array in arrays.items()}, HERE / "zennit_crp.safetensors")
    facts = {
        "made by": "tests/golden/make_golden.py with zennit-crp 0.6.0 and zennit 0.5.1",
        "weights": {name: cases.checksum(cases.model(name)) for name in cases.MODELS},
        "images": cases.checksum_of_images(),
    }
    (HERE / "zennit_crp.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
