"""A small library written by hand, in which every number is known."""

from pathlib import Path

import numpy as np
import pytest

from crp.library.manifest import layer_folder, write_manifest
from crp.library.patches import MODES, StoredPatch, encode_picture, write_patches
from crp.library.references import ClassStatistics
from crp.library.tables import write_table

LAYERS = {"features.3": [2, 4, 5], "block/one": [3]}
CLASSES, K = 4, 2


def manifest() -> dict:
    return {
        "versions": {"crp-atlas": "0"},
        "model": {"class": "some.Net", "parameters": 7, "weights": "ab" * 32},
        "data": {"length": 9, "fingerprint": "cd" * 32, "shape": [3, 8, 8], "dtype": "float32"},
        "classes": CLASSES,
        "class_names": ["cat", "dog", "<owl>", "newt"],
        "layers": [{"name": name, "shape": shape, "concepts": shape[0]} for name, shape in LAYERS.items()],
        "composite": {"name": "epsilon"},
        "preprocessing": {"size": 8, "crop": None, "mean": [0.5, 0.5, 0.5], "std": [1.0, 1.0, 1.0]},
        "settings": {
            "k": K,
            "top": 1,
            "class_references": 0,
            "vectors": False,
            "patches": 1,
            "patch_size": 96,
            "block_size": 32,
            "threads": 1,
            "concept": "ChannelConcept",
            "targets": "label",
            "precision": "float32",
            "start": "logit",
            "relevance_score": "sum/divided",
            "activation_score": "max",
        },
    }


def references(concepts: int) -> dict[str, np.ndarray]:
    arrays = {}
    for shift, mode in enumerate(MODES):
        whole = np.arange(concepts * K).reshape(concepts, K)
        down = np.arange(K) / (-2 if mode == "negative" else 2)
        arrays |= {
            f"{mode}.sample": whole + shift,
            f"{mode}.score": (whole[:, :1] / 2 - shift - down).astype(np.float32),
            f"{mode}.target": whole % CLASSES,
            f"{mode}.position": whole * 0,
        }
    return arrays


def stored_patch(sample: int, height: int = 3, width: int = 2, position: int = 0) -> StoredPatch:
    picture = np.full((height, width, 3), sample * 10, dtype=np.uint8)
    heatmap = np.linspace(-127, 127, height * width).astype(np.int8).reshape(height, width)
    return StoredPatch(
        sample, sample / 4, sample % CLASSES, position, (1, 2, 1 + height, 2 + width), encode_picture(picture), heatmap
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    """A library with two layers; in `features.3` concept 1 has patches, and concept 0 was asked for and has none."""
    path = tmp_path / "hand.crp"
    for name, shape in LAYERS.items():
        tables = path / "layers" / layer_folder(name)
        tables.mkdir(parents=True)
        write_table(tables / "references.safetensors", references(shape[0]))
        share = np.arange(CLASSES * shape[0], dtype=np.float64).reshape(CLASSES, shape[0])
        statistics = ClassStatistics(
            share=share,
            share_variance=share / 8,
            activation=share + 1,
            activation_variance=share / 4,
            among_top=share.astype(np.int64),
            count=np.arange(CLASSES),
        )
        write_table(tables / "statistics.safetensors", vars(statistics))
        patches = {1: {"relevance": (stored_patch(6, position=7),), "activation": (stored_patch(3),)}, 0: {}}
        write_patches(tables / "patches.safetensors", patches if name == "features.3" else {})
    write_manifest(path, manifest())
    return path
