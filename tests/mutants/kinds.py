"""Kinds of changes. Each takes a library's folder, a folder beside it that is not its own, and a random number.

It changes files in place and returns what it did, in a few words.
"""

import io
import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from crp.library.patches import read_patches, write_patches

HTML = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'>"
RAW = {  # what json.dumps would not write
    "@huge@": "1" + "0" * 400,
    "@digits@": "1" * 6000,
    "@infinite@": "1e999",
    "@nan@": "NaN",
    "@minus@": "-Infinity",
    "@lone@": '"\\ud800"',
}
NASTY = [
    *(None, True, -1, 0, 1, 2, 2**31, 2**63, 10**20, -(2**63), 1.5, 1e300),
    *("", "..", ".", "../../outside", "/etc/passwd"),
    *(HTML, "\x1b[2J\x1b[31m\x07", "\u202eabc", "\0", "a\nb", "a" * 100_000, "C:\\x", "%2e%2e", "ü/…"),
    *([], {}, [[]], {"a": {}}, [0] * 10_000, [-1, -1], [3, 2**40, 2**40], [HTML], {HTML: HTML}, *RAW),
]


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _tables(folder: Path) -> list[Path]:
    return sorted(folder.glob("layers/*/*.safetensors"))


def _nodes(value: Any, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(node for key, part in inner for node in _nodes(part, (*path, key)))]


def _write_json(file: Path, content: Any) -> None:
    text = json.dumps(content, indent=1)
    for mark, raw in RAW.items():
        text = text.replace(f'"{mark}"', raw)
    file.write_text(text)


def manifest_value(folder: Path, outside: Path, dice: random.Random) -> str:
    """One value of the manifest replaced, removed, or under another name."""
    file = folder / "manifest.json"
    content = json.loads(file.read_text())
    nodes = _nodes(content)[1:]
    within = dice.choice(["preprocessing", "settings", "data", "layers", *[None] * 4])  # where numbers are used
    *path, last = dice.choice([node for node in nodes if within in (None, node[0])])
    place = content
    for key in path:
        place = place[key]
    way = dice.choice(["replace"] * 6 + ["remove", "rename", "deep"])
    value = dice.choice(NASTY) if way == "replace" else _deep(dice.choice([40, 500])) if way == "deep" else None
    if way in ("replace", "deep"):
        place[last] = value
    elif way == "remove":
        del place[last]
    elif isinstance(place, dict):
        place[f"{last}2"] = place.pop(last)
    _write_json(file, content)
    return f"{way} {'.'.join(map(str, (*path, last)))} {value!r:.40}"


def manifest_text(folder: Path, outside: Path, dice: random.Random) -> str:
    """The manifest as text: no JSON, or JSON that readers disagree about."""
    file = folder / "manifest.json"
    text = file.read_text()
    ways = {
        "cut": lambda: text[: dice.randrange(len(text))],
        "deep": lambda: "[" * 200_000,
        "deep objects": lambda: '{"a":' * 100_000,
        "duplicate key": lambda: text.replace("{", '{"classes": 3, "classes": 1000000000000,', 1),
        "duplicate layers": lambda: text.replace('"layers": [', '"layers": [], "layers": [', 1),
        "byte order mark": lambda: "\ufeff" + text,
        "no object": lambda: dice.choice(["null", "[]", "3", '"a"', "{}", "", " "]),
        "more behind": lambda: text + "{}",
        "comment": lambda: "// library\n" + text,
        "huge number": lambda: text.replace('"classes": 3', f'"classes": {"9" * dice.choice([400, 5000])}'),
    }
    way = dice.choice([*ways, "large", "garbled", "utf-16"])
    if way == "large":
        with open(file, "r+b") as handle:
            handle.truncate(80 << 20)
    elif way == "garbled":
        _flip(file, dice, 20)
    elif way == "utf-16":
        file.write_bytes(text.encode("utf-16"))
    else:
        file.write_text(ways[way]())
    return way


def class_and_layer_names(folder: Path, outside: Path, dice: random.Random) -> str:
    """Names that mean something to a browser, a terminal or a file system; the folder of a layer is renamed with it."""
    from crp.library.manifest import layer_folder

    file = folder / "manifest.json"
    content = json.loads(file.read_text())
    content["class_names"] = [HTML, "\x1b[2J", "a" * dice.choice([1, 10_000])]
    content["source"] = {"model": HTML, "data": "../../outside", "command": ["\x1b]0;x\x07", HTML, "$(rm -rf .)"]}
    content["composite"]["reason"] = HTML
    name = dice.choice([HTML[:60], "../outside", "/etc", "..", "a/b", "con", "\x1b[2J", "\0", "é" * 40, " "])
    if dice.random() < 0.6:
        name = "0"
    before, content["layers"][0]["name"] = content["layers"][0]["name"], name
    if name.strip("."):
        (folder / "layers" / before).rename(folder / "layers" / layer_folder(name))
    file.write_text(json.dumps(content))
    return f"layer {name!r}"


def header(folder: Path, outside: Path, dice: random.Random) -> str:
    """The header of a table: shapes, types, offsets, names, its own length."""
    file = dice.choice(_tables(folder))
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    entries, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = dice.choice(sorted(entries))
    way = dice.choice(
        ["shape", "shape", "dtype", "offsets", "offsets", "rename", "remove", "more", "length", "metadata"]
    )
    if way == "shape":
        entries[name]["shape"] = dice.choice(
            [[2**62, 2**62], [2**63], [2**64 + 1], [-1], [], [0], [1.5], ["4", 3], [2**31, 2**31], _deep(50)]
        )
    elif way == "dtype":
        entries[name]["dtype"] = dice.choice(["F64", "F16", "BF16", "BOOL", "U8", "I8", "X", None, 3, HTML])
    elif way == "offsets":
        entries[name]["data_offsets"] = dice.choice(
            [
                *([0, 2**63], [2**64, 2**64], [8, 0], [-8, 0], [0, 0], [0, 8]),
                *([0], [], "0", [1, 9], [len(body), len(body) + 8]),
            ]
        )
    elif way == "rename":
        entries[dice.choice(["", "../x", HTML, "a" * 10_000])] = entries.pop(name)
    elif way == "remove":
        del entries[name]
    elif way == "more":
        entries |= {f"x{index}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for index in range(1000)}
    elif way == "metadata":
        entries["__metadata__"] = dice.choice([{"a": HTML}, {"a": 1}, [], HTML, {"format": "pt"}])
    written = json.dumps(entries).encode()
    size = len(written)
    if way == "length":
        size = dice.choice([0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1, 100_000_001])
    file.write_bytes(struct.pack("<Q", size) + written + body)
    return f"{file.name} {way} of {name}"


def values(folder: Path, outside: Path, dice: random.Random) -> str:
    """Numbers of one array: out of range, not finite, of another type or shape, in another order."""
    file = dice.choice(_tables(folder))
    arrays = load_file(file)
    name = dice.choice(sorted(arrays))
    array = arrays[name].copy()
    flat, place = array.reshape(-1), dice.randrange(max(array.size, 1))
    ways = ["dtype", "rows", "more rows", "empty", "transposed", "reversed", "zero", "nested"]
    way = dice.choice([*ways, *(["number"] * 12 if array.size else [])])
    if way == "number":
        if array.dtype.kind == "f":
            largest = float(np.finfo(array.dtype).max)
            flat[place] = dice.choice([np.nan, np.inf, -np.inf, min(3e38, largest), max(-3e38, -largest), 1e-45])
        elif array.dtype == np.uint8:
            flat[place] ^= 255
        else:
            limits = np.iinfo(array.dtype)
            number = dice.choice([-1, -2, 4, 10, 1000, 2**31, 2**62, 2**63 - 1, -(2**63)])
            flat[place] = min(max(number, limits.min), limits.max)
    elif way == "dtype":
        array = array.astype(dice.choice([np.float16, np.float64, np.int8, np.int32, np.uint64, np.bool_]))
    elif way == "rows":
        array = array[: len(array) // 2]
    elif way == "more rows":
        array = np.concatenate([array, array])
    elif way == "empty":
        array = array[:0]
    elif way == "transposed":
        array = array.T
    elif way == "reversed":
        array = array[::-1]
    elif way == "zero":
        array = np.zeros_like(array)
    else:
        array = array[None]
    save_file({**arrays, name: np.ascontiguousarray(array)}, file)
    return f"{file.name} {name} {way}"


def files(folder: Path, outside: Path, dice: random.Random) -> str:
    """Whole files: cut, garbled, empty, longer, swapped, gone, folders and pipes in their place."""
    file = dice.choice([*_tables(folder), folder / "manifest.json"])
    way = dice.choice(
        ["cut", "flip", "flip", "empty", "longer", "swap", "swap tables", "gone", "folder", "pipe", "other"]
    )
    size = file.stat().st_size
    if way == "cut":
        file.write_bytes(file.read_bytes()[: dice.randrange(size)])
    elif way == "flip":
        _flip(file, dice, dice.choice([1, 8, 64]))
    elif way == "empty":
        file.write_bytes(b"")
    elif way == "longer":
        file.write_bytes(file.read_bytes() + dice.randbytes(dice.choice([1, 8, 4096])))
    elif way in ("swap", "swap tables"):
        first = dice.choice(_tables(folder))
        others = [other for other in _tables(folder) if other != first]
        second = dice.choice([other for other in others if (other.name == first.name) == (way == "swap")])
        kept = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(kept)
    elif way in ("gone", "folder", "pipe"):
        file.unlink()
        if way == "folder":
            file.mkdir()
        if way == "pipe":
            os.mkfifo(file)
    else:
        starts = [b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x80\x04cos\nsystem\n(S'id'\ntR.", b"%PDF"]
        file.write_bytes(dice.choice(starts) * 9)
    return f"{file.name} {way}"


def links(folder: Path, outside: Path, dice: random.Random) -> str:
    """Links: out of the folder, to the system's files, in circles; also a folder of layers."""
    file = dice.choice([*_tables(folder), folder / "manifest.json", folder / "SHA256SUMS"])
    ways = ["copy", "relative", "/etc/passwd", "/dev/zero", "/dev/stdin", "circle", "nowhere", "layers", "layer"]
    way = dice.choice(ways)
    if way in ("layers", "layer"):
        place = {"layers": folder / "layers", "layer": folder / "layers" / "0"}[way]
        place.rename(outside / "moved")
        place.symlink_to(outside / "moved")
        return f"link for {way}"
    if way in ("copy", "relative"):
        shutil.copy(file, outside / file.name)
    file.unlink()
    target = {
        "copy": outside / file.name,
        "relative": os.path.relpath(outside / file.name, file.parent),
        "circle": file,
        "nowhere": outside / "none",
    }.get(way, way)
    file.symlink_to(target)
    return f"{file.name} -> {way}"


def pictures(folder: Path, outside: Path, dice: random.Random) -> str:
    """What stands for a patch's picture: bombs, other formats, other sizes, text."""
    file = folder / "layers" / "0" / "patches.safetensors"
    stored = read_patches(file)
    patch = stored[dice.randrange(4)]["relevance"][0]
    height, width = patch.heatmap.shape
    small = Image.new("RGB", (width, height))
    bomb = b"a\0\0" + zlib.compress(bytes(90_000_000))
    ways: dict[str, Callable[[], bytes]] = {
        "huge png": lambda: _png(60_000, 60_000, b"\0" * 100),
        "png too long": lambda: _png(width, height, bytes(200_000_000)),
        "png with text bomb": lambda: _png(width, height, b"", (b"zTXt", bomb)),
        "png with profile bomb": lambda: _png(width, height, b"", (b"iCCP", bomb)),
        "huge jpeg": lambda: _saved(small, "JPEG").replace(struct.pack(">HH", height, width), b"\xff\xff\xff\xff"),
        "cut jpeg": lambda: _saved(small, "JPEG")[:-20],
        "other size": lambda: _saved(Image.new("RGB", (width + 1, height)), "PNG"),
        "16 bits": lambda: _saved(Image.new("I;16", (width, height)), "PNG"),
        "palette": lambda: _saved(small.convert("P"), "PNG"),
        "transparent": lambda: _saved(small.convert("RGBA"), "PNG"),
        "cmyk": lambda: _saved(small.convert("CMYK"), "JPEG"),
        "gif": lambda: _saved(small, "GIF"),
        "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
        "svg": lambda: f'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)">{HTML}</svg>'.encode(),
        "nothing": lambda: b"",
    }
    way = dice.choice(sorted(ways))
    object.__setattr__(patch, "picture", ways[way]())
    write_patches(file, stored)
    return way


def checksums(folder: Path, outside: Path, dice: random.Random) -> str:
    """The files of checksums themselves."""
    file = dice.choice(sorted(folder.rglob("SHA256SUMS")))
    text = file.read_text()
    way = dice.choice(["outside", "absolute", "cut", "empty", "garbled", "many", "letters", "gone"])
    line = {"outside": "../../outside/secret", "absolute": "/etc/passwd", "letters": "é\x1b[2J" + HTML}.get(way)
    if line is not None:
        file.write_text(f"{text}{'0' * 64}  {line}\n", encoding="utf-8")
    elif way == "cut":
        file.write_text(text[: dice.randrange(len(text))])
    elif way == "garbled":
        _flip(file, dice, 8)
    elif way == "gone":
        file.unlink()
    else:
        file.write_text("" if way == "empty" else "".join(f"{'a' * 64}  x{index}\n" for index in range(100_000)))
    return way


_ALL = (
    *(manifest_value, manifest_text, class_and_layer_names),
    *(header, values, files, links, pictures, checksums),
)
KINDS = {kind.__name__.replace("_", " "): kind for kind in _ALL}
# How often each is taken, of these many.
WEIGHTS = {"manifest value": 5, "values": 5, "header": 3, "files": 2, "pictures": 2}


def _flip(file: Path, dice: random.Random, count: int) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(count):
        content[dice.randrange(len(content))] = dice.randrange(256)
    file.write_bytes(content)


def _saved(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def _png(width: int, height: int, data: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG that says its size and holds something else."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = data or b"".join(b"\0" + bytes(3 * width) for _ in range(height))
    more = b"".join(chunk(*part) for part in extra)
    return b"\x89PNG\r\n\x1a\n" + start + more + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
