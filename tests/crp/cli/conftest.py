"""A small model in a file, a few pictures, and the library mined from them: what most command lines here are about."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from crp.cli import main

NET = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))


def other():
    model = make()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1
    return model


def not_finite():
    model = make()
    with torch.no_grad():
        model[2].weight[1, 0, 0, 0] = float("nan")
    return model


def no_model():
    return {"weights": 1}


def fails():
    return 1 / 0


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 12, 12)


class Empty:
    def __len__(self):
        return 0

    def __getitem__(self, index):
        raise IndexError(index)


class Random:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.rand(3, 12, 12)


class NotFinite:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return torch.full((3, 12, 12), float("nan") if index == 2 else 1.0)


class FarLabel(NotFinite):
    def __getitem__(self, index):
        return torch.full((3, 12, 12), 1.0), 7 if index == 1 else 0


class Interrupts(NotFinite):
    def __getitem__(self, index):
        raise KeyboardInterrupt
"""


def picture(index: int, side: int = 12) -> Image.Image:
    """A noisy square whose colour tells its index."""
    noise = np.random.default_rng(index).integers(0, 200, (side, side, 3), dtype=np.uint8)
    noise[..., index % 3] += 55
    return Image.fromarray(noise)


@dataclass(frozen=True)
class Shop:
    """A folder with `net.py`, six pictures in `photos/` in three class folders, and `mined.crp`."""

    folder: Path

    def run(self, *words: object) -> Result:
        """Run `crp` with the folder as working folder; the word after `crp` first."""
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            return CliRunner().invoke(main, [str(word) for word in words])
        finally:
            os.chdir(before)

    def files(self) -> dict[str, tuple[int, int]]:
        """Every path below, with its size and time of change."""
        return {
            str(path.relative_to(self.folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in self.folder.rglob("*")
            if "__pycache__" not in path.parts and path.is_file()
        } | {str(path.relative_to(self.folder)): (0, 0) for path in self.folder.rglob("*") if path.is_dir()}


def make_shop(folder: Path) -> Shop:
    """Write the folder and mine."""
    (folder / "net.py").write_text(NET)
    for index in range(6):
        place = folder / "photos" / ("ant", "bee", "wasp")[index % 3]
        place.mkdir(parents=True, exist_ok=True)
        picture(index).save(place / f"{index}.png")
    picture(9).save(folder / "new.png")
    shop = Shop(folder)
    options = ("--layers", "0,2", "--patches", 1, "--patches-now", "all")
    mined = shop.run("mine", "net.py:make", "photos", "--out", "mined.crp", *options)
    assert mined.exit_code == 0, mined.output
    return shop


@pytest.fixture(scope="session")
def mined_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """One shop for all tests that leave it as it is."""
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(mined_shop: Shop, tmp_path: Path) -> Shop:
    """A copy of it to change."""
    import shutil

    shutil.copytree(mined_shop.folder, tmp_path / "shop")
    return Shop(tmp_path / "shop")


OTHER_WEIGHTS = "The library 'mined.crp' was mined with other weights (…, and this model has …): …"


@pytest.fixture(scope="session")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with files that are wrong in one way each."""
    shop = make_shop(tmp_path_factory.mktemp("spoilt"))
    folder = shop.folder
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / "file").touch()
    (folder / "two.txt").write_text("ant\nbee\n")
    (folder / "bad.json").write_text('{"sizes": 3}')
    (folder / "other.npz").write_bytes(b"PK")
    picture(1, side=64).save(folder / "cut.jpg")
    whole = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    for name in ("corrupt", "dots", "mixed", "nothing"):
        (folder / name).mkdir()
    picture(0).save(folder / "corrupt" / "a.png")
    shutil.copy(folder / "cut.jpg", folder / "corrupt" / "b.jpg")
    Image.new("RGB", (1, 1)).save(folder / "dots" / "a.png")
    for name, side in (("a", 12), ("b", 14)):
        picture(0, side=side).save(folder / "mixed" / f"{name}.png")
    torch.save({"0.weight": torch.zeros(4, 3, 3, 3), "classifier.weight": torch.zeros(2)}, folder / "other.pt")
    torch.save(nn.Linear(1, 1), folder / "whole.pt")
    (folder / "broken.safetensors").write_bytes(b"\x10" + bytes(20))
    for name in ("cut", "lost", "half"):
        shutil.copytree(folder / "mined.crp", folder / f"{name}.crp")
    table = folder / "cut.crp" / "layers" / "2" / "patches.safetensors"
    table.write_bytes(table.read_bytes()[:100])
    (folder / "lost.crp" / "layers" / "2" / "patches.safetensors").unlink()
    manifest = folder / "half.crp" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:300])
    return shop


def check(sentence: str, expected: str) -> None:
    """The whole sentence is as expected."""
    assert "\n" not in sentence
    assert re.fullmatch(re.escape(expected).replace("…", ".*"), sentence), sentence
