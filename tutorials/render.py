"""Run the tutorials and write them with their pictures to docs/tutorials: `python tutorials/render.py [NAME ...]`.

The notebooks are stored without output; the pages are for reading on the web. A page holds the notebook's text, its
code, what the code printed, and its pictures, each a PNG beside the page. Needs the packages of the extra "test".
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parent
PAGES = FOLDER.parent / "docs" / "tutorials"
WIDEST = 1000  # pixels; what a page can show without scrolling


@contextmanager
def kernel() -> Iterator[AsyncKernelManager]:
    """Start a kernel of this Python; several notebooks can run in it, one after the other."""
    manager = AsyncKernelManager(kernel_name="python3")
    # Pictures become output of their cell, even if the environment sets another backend.
    inline = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    asyncio.run(manager.start_kernel(env=inline))
    try:
        yield manager
    finally:
        asyncio.run(manager.shutdown_kernel(now=True))


def executed(notebook: NotebookNode, folder: Path, manager: AsyncKernelManager) -> NotebookNode:
    """Run a notebook in `folder` without any names of the notebooks before it, and return it with its output.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    first = nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {folder}")
    run = NotebookNode({**notebook, "cells": [first, *notebook.cells]})
    # A cell takes up to 40 seconds of CPU time; on a busy machine that is many minutes.
    client = NotebookClient(run, timeout=1200, km=manager)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()
    return notebook


def page_of(notebook: NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """Return the page of an executed notebook, and its pictures by file name, as they were drawn.

    Of each output the picture is taken, or else the plain text: HTML (a whole atlas) does not fit into a page of text.
    Standard error (progress bars) is left out.
    """
    parts, pictures = [f"<!-- Written by tutorials/render.py from tutorials/{name}.ipynb; edit that. -->"], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(_relinked(cell.source))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for number, data in enumerate(_shown(cell)):
            if isinstance(data, str):
                parts.append(f"```text\n{data.rstrip()}\n```")
                continue
            file = f"{name}-{cell.id}{f'-{number}' if number else ''}.png"
            pictures[file] = data
            parts.append(f"![{cell.id.replace('-', ' ')}]({file})")
    return "\n\n".join(parts) + "\n", pictures


def _shown(cell: NotebookNode) -> Iterator[str | bytes]:
    """Yield what a cell printed (str) and drew (bytes), in order; consecutive prints are joined."""
    text = ""
    for output in cell.outputs:
        if output.output_type == "stream":
            text += output.text if output.name == "stdout" else ""
            continue
        if text:
            yield text
            text = ""
        if "image/png" in output.data:
            yield base64.b64decode(output.data["image/png"])
        elif "text/plain" in output.data:
            yield output.data["text/plain"]
    if text:
        yield text


def reduced(png: bytes, widest: int = WIDEST) -> bytes:
    """Reduce a picture to 256 colours and at most `widest` pixels in width: a third of the bytes."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if picture.width > widest:
        height = round(picture.height * widest / picture.width)
        picture = picture.resize((widest, height), Image.Resampling.LANCZOS)
    # Half of the palette for common colours, half for rare ones, such as the strongest colours of a heatmap.
    common, rare = Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE
    colours = [255, 255, 255]
    for method, count in ((common, 127), (rare, 128)):
        colours += picture.quantize(count, method).getpalette()[: 3 * count]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    reduced = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    # Pillow does not always pick the nearest colour, but the background has to be white.
    reduced.paste(0, mask=picture.convert("L").point(lambda grey: 255 * (grey == 255)))
    buffer = io.BytesIO()
    reduced.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _relinked(text: str) -> str:
    """Make links relative to the page instead of the notebook; a link to a notebook becomes one to its page."""

    def relinked(link: re.Match[str]) -> str:
        target = (FOLDER / link["target"]).resolve()
        target = PAGES / f"{target.stem}.md" if target.suffix == ".ipynb" else target
        return f"]({Path(os.path.relpath(target, PAGES)).as_posix()})"

    return re.sub(r"\]\((?!https?://|#)(?P<target>[^)\s]+)\)", relinked, text)


def render(name: str, manager: AsyncKernelManager) -> None:
    """Run one tutorial and write its page and pictures, replacing older ones."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        page, pictures = page_of(executed(notebook, Path(folder), manager), name)
    pictures = {file: reduced(png) for file, png in pictures.items()}
    PAGES.mkdir(parents=True, exist_ok=True)
    for old in PAGES.glob(f"{name}-*.png"):
        old.unlink()
    for file, png in pictures.items():
        (PAGES / file).write_bytes(png)
    (PAGES / f"{name}.md").write_text(page, encoding="utf-8")
    print(f"{name}: {len(pictures)} pictures, {sum(map(len, pictures.values())) / 1000:.0f} kB")


if __name__ == "__main__":
    with kernel() as started:
        for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
            render(name, started)
