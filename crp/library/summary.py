"""Describes a library as JSON values and as text: what it holds, how it was made, and what to do next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crp.errors import inert, shortened

from .checksums import library_files
from .known_outputs import recognised
from .patch_segments import segment_files
from .store import TABLES, Library

# What stands before the colon in names of models that need no code of the user's (`crp.sources.named_models.FAMILIES`).
RUN_BY_NAME = ("torchvision", "timm", "hf", "demo")
PRIVACY = "Patches and heatmaps show parts of the data set: share a library only with those who may see the data."


def model_name(manifest: Mapping[str, Any]) -> str:
    """Return a short name of the mined model: as a command named it, without folders, or else its class. May be empty.

    >>> model_name({"source": {"model": "nets/audio.py:make"}, "model": {"class": "torch.nn.modules.Sequential"}})
    'audio.py:make'
    """
    source = manifest.get("source")
    named = source.get("model") if isinstance(source, dict) else None
    if isinstance(named, str) and named:
        return Path(named).name
    return str(manifest["model"].get("class", "")).rpartition(".")[2]


def description(library: Library) -> dict[str, Any]:
    """Describe a library as JSON values: its layers with their sizes on disk in bytes, and the manifest."""
    layers = []
    for layer in library.layers:
        limits, patches = library.limits(layer), library.patch_files(layer)
        layers.append(
            {
                "name": layer,
                "shape": list(library.shape(layer)),
                "concepts": limits.concepts,
                "names": list(library.names[layer]),
                "patches_made": int(patches.made().sum()),
                "patches": int(patches.expected.sum()),
                "bytes": _sizes(library, patches.table.parent),
            }
        )
    return {
        "path": str(library.path),
        "layers": layers,
        "bytes": sum(file.lstat().st_size for file in library_files(library.path)),
        "manifest": library.manifest,
    }


def _sizes(library: Library, folder: Path) -> dict[str, int]:
    """Return the bytes of each table of a layer; those of patches include the segments."""
    sizes = {file.stem: file.lstat().st_size for file in library_files(library.path, folder)}
    sizes["patches"] += sum(file.lstat().st_size for file in segment_files(folder))
    return sizes


def described_in_words(library: Library) -> str:
    """Describe a library as text: its layers as a table, how it was mined, and what to do next."""
    told, manifest = description(library), library.manifest
    settings, source = manifest["settings"], manifest.get("source")
    source = source if isinstance(source, dict) else {}
    model, data, composite = manifest["model"], manifest["data"], manifest["composite"]
    command = source.get("command")
    facts = {
        "model": f"{source.get('model') or model.get('class')} (weights {model['weights'][:12]})",
        "data": f"{source.get('data') or 'a data set'} ({_counted(data['length'], 'sample')} {data['shape']}, "
        f"fingerprint {data['fingerprint'][:12]})",
        "recognised": recognised(manifest),
        "classes": f"{manifest['classes']}{_some(library.class_names)}",
        "composite": f"{composite['name']}: {composite.get('reason')}",
        "explained": _explained(manifest),
        "conserved": _conserved(manifest),
        "relevance": f"{settings['relevance_score']}: {_definition(manifest, 'relevance_score')}",
        "activation": f"{settings['activation_score']}: {_definition(manifest, 'activation_score')}",
        "references": f"the best {settings['k']} samples of each concept by relevance and by activation, "
        f"{settings['patches']} of them with patches{_made(told['layers'])}",
        "computed": f"in {settings['precision']} on {settings.get('device')}, {settings['block_size']} samples at a "
        f"time, {_counted(settings['threads'], 'thread')}",
        "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
    }
    if isinstance(command, list):
        facts["made by"] = shlex.join(map(str, command))
    width = max(map(len, facts))
    lines = [
        f"{told['path']}: {_counted(len(told['layers']), 'layer')}, {_size(told['bytes'])}",
        "",
        *_table(told["layers"]),
        *(f"names of {layer}: {listed}" for layer, listed in _names(library)),
        "",
        *(f"{word:<{width}}  {value}" for word, value in facts.items()),
        "",
        *_next(library),
        PRIVACY,
    ]
    return inert("\n".join(lines))


def _made(layers: list[dict[str, Any]]) -> str:
    """Say how many patches have been made, if some are missing."""
    made, total = (sum(layer[count] for layer in layers) for count in ("patches_made", "patches"))
    return "" if made == total else f" ({made} of {total} have been made; others are made when they are needed)"


def _explained(manifest: dict[str, Any]) -> str:
    rule, output = manifest["settings"]["targets"], manifest["model"].get("output")
    if manifest["settings"]["start"] == "start":
        return f"{manifest['class_names'][0]} in each sample: relevance starts as {rule}"
    if rule.startswith("top") and rule[3:].isdecimal():
        what = f"the {rule[3:]} largest outputs for each sample"
    else:
        what = {
            "label": "the labels of each sample",
            "prediction": "the class predicted for each sample",
        }.get(rule, f"the classes that the function {rule} returns")
    part = "" if output is None else f", of the model's output {shortened(output)}"
    start = {"logit": "relevance starts as the model's output for the class, with its sign"}
    return f"{what}{part}; {start.get(manifest['settings']['start'], 'relevance starts as the function returns it')}"


def _conserved(manifest: dict[str, Any]) -> str:
    """Say what the ledger of the first samples holds."""
    found = manifest.get("conservation")
    if not isinstance(found, dict) or not found:
        return "not measured"
    adds = found["arrived"] + found["unaccounted"] > 1
    parts = ((name, -part if adds else part) for name, part in found["absorbed"])
    modules = ", ".join(f"{name or 'the model itself'} {_part(part)}" for name, part in parts)
    constants = "constants such as biases " + ("have added to it" if adds else "absorb the rest")
    words = [
        f"{_part(found['arrived'])} of the relevance that starts arrives at the input",
        f"{constants}{f' ({modules})' if modules else ''}",
        f"measured on {_counted(found['samples'], 'sample')}",
    ]
    if abs(found["unaccounted"]) >= 0.005:
        words.insert(2, f"functions without a rule lose {_part(found['unaccounted'])}")
    departure = found.get("departure")  # libraries of earlier versions do not have it
    if departure is not None:
        place = f"{departure['module'] or 'the model itself'} ({departure['operation']})"
        words.insert(-1, f"below {place} it adds up to {_part(departure['left'])}")
    return "; ".join(words)


def _part(value: float) -> str:
    """Format a part of a whole that may be exceeded.

    >>> _part(0.415), _part(-0.02), _part(-250.0)
    ('42 %', '-2 %', '-250 times')
    """
    return f"{100 * value:.0f} %" if abs(value) < 10 else f"{value:.3g} times"


def _table(layers: list[dict[str, Any]]) -> list[str]:
    tables = list(dict.fromkeys([*TABLES, *(table for layer in layers for table in layer["bytes"])]))
    rows = [("layer", "output", "concepts", "patches made", *tables)]
    rows += [
        (
            layer["name"],
            " x ".join(map(str, layer["shape"])),
            str(layer["concepts"]),
            f"{layer['patches_made']} of {layer['patches']}",
            *(_size(layer["bytes"].get(table, 0)) for table in tables),
        )
        for layer in layers
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            # names are aligned left, numbers right
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _next(library: Library) -> list[str]:
    path = shlex.quote(str(library.path))
    made, total = library.patch_counts()
    by_shell = f"crp atlas {path} picture.jpg{_model_option(library)}"
    if library.preprocessing is None:
        by_shell = "(the library does not say how pictures become model input; pass a tensor in Python)"
    return [
        f"Explain a picture:  {by_shell}",
        f"In Python:          crp.explain(model, image, crp.open_library({str(library.path)!r}))",
        f"Check it:           crp verify {path}",
        *([f"Make all patches:   crp patches {path}{_model_option(library)}"] if made < total else []),
    ]


def _model_option(library: Library) -> str:
    """Return the option that names the library's model again, if it is code, which a library alone does not run."""
    source = library.manifest.get("source")
    model = source.get("model") if isinstance(source, dict) else None
    if not isinstance(model, str) or model.partition(":")[0] in RUN_BY_NAME:
        return ""
    return f" --model {shlex.quote(model)}"


def _definition(manifest: dict[str, Any], score: str) -> str:
    definitions = manifest.get("definitions")
    return str(definitions.get(score)) if isinstance(definitions, dict) else "not known"


def _names(library: Library) -> list[tuple[str, str]]:
    """List the first names of each layer; with numbers where only some concepts have one."""
    found = []
    for layer, names in library.names.items():
        told = [
            shortened(name, 40) if all(names) else f"{shortened(name, 40)} ({concept})"
            for concept, name in enumerate(names)
            if name
        ]
        if told:
            found.append((layer, ", ".join(told[:5]) + (", ..." if len(told) > 5 else "")))
    return found


def _some(names: tuple[str, ...]) -> str:
    if not names:
        return ", without names"
    return f": {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _size(count: int) -> str:
    """Format a number of bytes.

    >>> _size(999), _size(1_500_000)
    ('999 B', '1.5 MB')
    """
    if count < 1000:
        return f"{count} B"
    power = min(int(math.log10(count)) // 3, 4)
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB', 'TB')[power - 1]}"
