"""Makes changed libraries one after the other, uses each in every way, and prints a JSON line for each.

    python -m tests.mutants.worker LIBRARY SEED FIRST END EVERY

With every EVERYth, also what needs the model: an atlas page, added patches, scores computed again.
"""

import contextlib
import json
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crp
from crp.analysis import search, similarity, suspects
from crp.errors import CrpError
from crp.library.checksums import write_checksums
from crp.library.patches import MODES
from crp.library.summary import described_in_words, description
from crp.library.vectors import Vectors
from crp.visualization.atlases import Atlas

from .kinds import HTML, KINDS, WEIGHTS
from .subject import dataset, model

# Above what the process has when it starts. The subject is of 50 kB, an explanation of it of a few MB.
MEMORY = 1 << 30
SENTENCE = 2000  # characters a refusal may have


def read_everything(path: Path) -> None:
    library = crp.open_library(path)
    assert all(character.isprintable() or character == "\n" for character in repr(library))
    assert HTML not in library._repr_html_()
    for layer in library.layers:
        _each(
            lambda layer=layer: library.statistics(layer),
            lambda layer=layer: library.with_patches(layer),
            lambda layer=layer: library.dead_concepts(layer),
            lambda layer=layer: library.concepts_of(0, layer),
            lambda layer=layer: library.classes_of(layer, 0),
            *(lambda layer=layer, mode=mode: library.class_references(layer, 1, mode) for mode in MODES),
            lambda layer=layer: analyse(library.vectors(layer)),
            *(lambda layer=layer, mode=mode: library.references(layer, mode) for mode in MODES),
            *(
                lambda layer=layer, mode=mode, concept=concept: library.patches(layer, concept, mode)
                for mode in MODES
                for concept in range(min(library.limits(layer).concepts, 8))
            ),
        )


def analyse(vectors: Vectors) -> None:
    search(vectors, 0)
    similarity(vectors)
    suspects(vectors, neighbours=2)


def tell(path: Path) -> None:
    library = crp.open_library(path)
    text = described_in_words(library)
    assert all(character.isprintable() or character == "\n" for character in text)
    json.dumps(description(library))


def draw(path: Path) -> None:
    library = crp.open_library(path)
    page = Atlas(crp.explain(model(), dataset()[0][0], library)).html
    page = page if isinstance(page, str) else page()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    library.preprocessing and library.preprocessing.to_input(dataset()[0][0].mul(255).byte().permute(1, 2, 0).numpy())


def add(path: Path) -> None:
    library = crp.open_library(path)
    crp.add_patches(library, model(), dataset(), "2", [3], progress=False)


def _each(*reads: Callable[[], Any]) -> None:
    """All of them, whatever one of them says; then what the first said that was refused."""
    refused = None
    for read in reads:
        try:
            read()
        except CrpError as error:
            _short(error)
            refused = refused or error
    if refused is not None:
        raise refused


def _short(error: CrpError) -> None:
    assert len(str(error)) <= SENTENCE, f"a sentence of {len(str(error))} characters"


def used(name: str, use: Callable[[Path], Any], path: Path) -> tuple[str, str]:
    """How a use ended: "read", "refused" or "failed", with the sentence or the traceback."""
    try:
        use(path)
    except CrpError as error:
        try:
            _short(error)
        except AssertionError as long:
            return "failed", f"{name}: {long}"
        return "refused", str(error)
    except BaseException:
        return "failed", f"{name}: {traceback.format_exc()}"
    return "read", ""


def mutant(base: Path, folder: Path, seed: int, index: int, deep: bool) -> dict[str, Any]:
    """Make the changed library of an index, use it, and say what came of it."""
    dice = random.Random(f"{seed} {index}")
    path, outside = folder / "a.crp", folder / "outside"
    shutil.copytree(base, path)
    outside.mkdir()
    (outside / "secret").write_text("secret")
    kind = dice.choices([*KINDS], [WEIGHTS.get(name, 1) for name in KINDS])[0]
    done = KINDS[kind](path, outside, dice)
    resealed = kind not in ("links", "checksums") and not any(file.is_fifo() for file in path.rglob("*"))
    resealed = resealed and dice.random() < 0.5
    if resealed:
        write_checksums(path)  # as an attacker would
    whole = _content(path) == _content(base)
    elsewhere = _content(outside)
    start = time.perf_counter()
    verified = {}
    uses = {
        "read": read_everything,
        "info": tell,
        "verify": lambda path: verified.update(found=crp.verify(path)),
        **({"page": draw, "again": lambda path: crp.verify(path, model(), dataset()), "add": add} if deep else {}),
    }
    outcomes = {name: used(name, use, path) for name, use in uses.items()}
    failed = [told for outcome, told in outcomes.values() if outcome == "failed"]
    if not failed:
        if outcomes["verify"][0] != "read":
            failed.append(f"verify raised: {outcomes['verify'][1]}")
        elif verified["found"].sound and not (resealed or whole):
            failed.append("verify found nothing")
        elif verified["found"].sound and "refused" in (outcomes["read"][0], outcomes["info"][0]):
            failed.append("verify found nothing in what cannot be read")
        if _content(outside) != elsewhere:
            failed.append("something outside the library was changed")
    return {
        "index": index,
        "kind": kind,
        "done": done,
        "resealed": resealed,
        "outcomes": {name: outcome for name, (outcome, _) in outcomes.items()},
        "sentence": next((told for outcome, told in outcomes.values() if outcome == "refused"), ""),
        "failed": failed,
        "seconds": time.perf_counter() - start,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _content(folder: Path) -> dict[str, bytes | str]:
    """Content of every regular file, and where links lead; checksums left out."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            found[str(file.relative_to(folder))] = str(file.readlink()) if file.is_symlink() else "special"
        elif file.is_file() and file.name != "SHA256SUMS":
            found[str(file.relative_to(folder))] = file.read_bytes()
    return found


def main() -> None:
    base, seed, first, end, every = Path(sys.argv[1]), *map(int, sys.argv[2:])
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as warm:  # what every use loads is no spike
        shutil.copytree(base, f"{warm}/a.crp")
        for use in (read_everything, tell, crp.verify, draw, add):
            use(Path(warm) / "a.crp")
        crp.verify(f"{warm}/a.crp", model(), dataset())
    size = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line).split()[1])
    resource.setrlimit(resource.RLIMIT_AS, (size * 1024 + MEMORY,) * 2)
    for index in range(first, end):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            told = mutant(base, Path(folder), seed, index, index % every == 0)
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
