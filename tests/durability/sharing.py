"""Mining shared by shards and by processes of torchrun; the libraries are compared byte for byte.

    python -m tests.durability.sharing --splits 20 --processes 1,2,3
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from crp.mining import merge
from tests import processes
from tests.durability.subject import Samples, digest, mined, net

_RANK = """
import sys
from pathlib import Path
from tests.durability.subject import mined
mined(Path(sys.argv[1]), distributed=True)
"""


def split_run(folder: Path, rng: random.Random) -> tuple[Path, str]:
    """Mine a random number of shards in random order, some in separate folders, and merge them."""
    count = rng.randint(1, 6)
    path, elsewhere = folder / "library.crp", []
    for place in rng.sample(range(1, count + 1), count):
        home = path
        if rng.random() < 0.4:
            home = folder / f"node-{place}" / "library.crp"
            elsewhere.append(home.with_name("library.crp.partial"))
        mined(home, shard=(place, count))
    rng.shuffle(elsewhere)
    merge(net(), Samples(), path=path, others=elsewhere, skip_bad=True, checkpoint=0, progress=False, patches_now="all")
    return path, f"{count} shards, {len(elsewhere)} of them in separate folders"


def torchrun(path: Path, count: int) -> None:
    """Mine with several processes."""
    script = path.with_suffix(".py")
    script.write_text(_RANK)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([*words, str(script), str(path)], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr)


def ranks(path: Path, count: int) -> None:
    """Mine with several processes in the environment that torchrun sets."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = [
        processes.start(["-c", _RANK, path], cwd=processes.ROOT, env={**meeting, "RANK": str(rank)})
        for rank in range(count)
    ]
    for process in started:
        _, stderr = process.communicate()
        if process.returncode:
            sys.exit(stderr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--processes", default="1,2,3")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, wrong = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        expected = digest(mined(Path(folder) / "whole.crp").path)
        for number in range(options.splits):
            path, described = split_run(Path(folder) / f"split-{number}", rng)
            same = digest(path) == expected
            wrong += not same
            print(f"{described}: {'the same bytes' if same else 'DIFFERENT'}")
        for count in map(int, filter(None, options.processes.split(","))):
            path = Path(folder) / f"{count}-processes.crp"
            torchrun(path, count)
            same = digest(path) == expected
            wrong += not same
            print(f"torchrun with {count} processes: {'the same bytes' if same else 'DIFFERENT'}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
