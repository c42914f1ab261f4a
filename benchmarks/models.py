"""`python -m benchmarks.models`: which published architectures can be explained, measured one by one.

Each network of `model_families.py` is built with random weights and explained in float64. Results are kept in
`.bench/models.jsonl` as they come, so that an interrupted run goes on where it stopped, and `--write` puts them into
docs/models.md. Networks of timm need timm (`pip install timm`).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks.model_families import FAMILIES, Network
from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.observation import observe
from crp.attribution.operation_composite import OperationComposite, network_kind
from crp.attribution.replica import replicate

if TYPE_CHECKING:
    from zennit.core import Hook  # at run time crp.attribution has to come first

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / ".bench" / "models.jsonl"
PAGE = ROOT / "docs" / "models.md"
SECONDS = 90

# A difference that rounding explains in float64: of outputs, and of a sum over all operations.
CLOSED = 1e-9

# Relevance at the input, relative to the logit, beyond which a heatmap shows amplified cancellations.
GROWN = 10


class EpsilonEverywhere(OperationComposite):
    """The epsilon rule at every linear operation: nothing is left out, so what does not arrive is in the ledger."""

    def linear_rule(self, module: nn.Module, name: str, first: bool) -> Hook:
        """Return the epsilon rule."""
        return self._epsilon


@dataclass
class Result:
    """One network, measured."""

    package: str
    name: str
    shape: str = ""
    output: float | None = None
    closing: float | None = None
    absorbed: float | None = None
    arriving: float | None = None
    notes: Sequence[str] = ()
    seconds: float = 0.0
    error: str = ""

    @property
    def closes(self) -> bool:
        """Whether the output is the model's own and the ledger closes, up to rounding."""
        return not self.error and self.output <= CLOSED and self.closing <= CLOSED


def randomized(model: nn.Module, data: Tensor) -> nn.Module:
    """Give a network the weights of no training: constants become random, and batch norms get fitting statistics.

    Weights that start at one value (heads and scales at zero, biases, position embeddings) would leave parts of the
    network without a signal.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not weight.numel() or not bool((weight == weight.flatten()[0]).all()):
                continue
            start = float(weight.flatten()[0])
            if sum(size > 1 for size in weight.shape) > 1:
                weight.normal_(0, (len(weight) / weight.numel()) ** 0.5)
            else:
                small = abs(start) < 0.1 and "bias" not in name
                weight.normal_(0.5 if small else start, 0.1)
        norms = [module for module in model.eval().modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all passes
            norm.train()
        for _ in range(3 if norms else 0):
            model(torch.randn(4, *data.shape[1:], dtype=data.dtype))
    return model.eval()


def measured(network: Network) -> Result:
    """Build a network and explain its largest logit.

    Whatever the network raises becomes the error of its result.
    """
    result = Result(network.package, network.name)
    started = time.perf_counter()
    try:
        with _limited(SECONDS):
            torch.manual_seed(0)
            model, shape = network.build()
            result.shape = "×".join(map(str, shape))
            data = torch.randn(1, *shape, dtype=torch.float64)
            model = randomized(model.double(), data)
            measure(model, data, result)
    except Exception as error:
        result.error = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    result.seconds = round(time.perf_counter() - started, 1)
    return result


def measure(model: nn.Module, data: Tensor, result: Result) -> None:
    """Explain one input, and enter what is found into a result."""
    with torch.no_grad():
        expected = model(data.clone())
    target = int(expected[0].argmax())
    epsilon = EpsilonEverywhere(network_kind(observe(replicate(model), data).linear))
    with RelevanceFlow(model, epsilon, data) as flow:
        result.notes = flow.notes
        result.output = float((flow.prediction - expected).abs().max() / expected.abs().max())
        ledger = flow.ledger(flow.output_relevance([target]))
    result.closing = abs(ledger.unaccounted / ledger.started)
    result.absorbed = ledger.absorbed / ledger.started
    fitting = composite_for(model, data)
    result.arriving = float(fitting.conservation(model, data, [target]))
    values = (result.output, result.closing, result.absorbed, result.arriving)
    if not all(value == value and abs(value) < float("inf") for value in values):
        raise ArithmeticError(f"a result is not finite: {values}")


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError inside the context after some seconds."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def kept_results() -> dict[tuple[str, str], Result]:
    """Read what was measured; of several results of one network the last."""
    if not RESULTS.exists():
        return {}
    results = [Result(**json.loads(line)) for line in RESULTS.read_text().splitlines()]
    return {(result.package, result.name): result for result in results}


def table(results: Sequence[Result]) -> str:
    """Write results as a Markdown table."""
    lines = ["| network | input | output | ledger | absorbed | arriving | s | notes |", "| --- " * 8 + "|"]
    for result in results:
        if result.error:
            numbers = ["–"] * 4
        else:
            numbers = [f"{result.output:.0e}", f"{result.closing:.0e}", f"{result.absorbed:.2g}",
                       f"{result.arriving:.2g}"]
        notes = (result.error or " ".join(result.notes)).replace("|", "\\|")
        row = [f"{result.package} `{result.name}`", result.shape, *numbers, f"{result.seconds:.0f}", notes]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> str:
    """Count the results in one sentence."""
    closing, named = sum(result.closes for result in results), sum(bool(result.notes) for result in results)
    failed = sum(bool(result.error) for result in results)
    growing = [f"`{result.name}`" for result in results if not result.error and abs(result.arriving) > GROWN]
    return (
        f"Of {len(results)} networks, {closing} have the model's own output and a ledger that closes to {CLOSED:.0e} "
        f"or better; {named} have functions without a rule, which are named; {failed} could not be explained. "
        f"With the default composite, relevance grows to more than {GROWN} times the logit in {len(growing)} "
        f"({', '.join(growing) or 'none'})."
    )


def main(given: Sequence[str] | None = None) -> int:
    """Measure the networks that have no result yet, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="only these networks, again even if they have a result")
    parser.add_argument("--again", action="store_true", help="measure all networks again")
    parser.add_argument("--write", action="store_true", help="write the table into docs/models.md")
    arguments = parser.parse_args(given)
    unknown = set(arguments.names) - {network.name for network in FAMILIES}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))} is not in benchmarks/model_families.py.")
    torch.set_num_threads(1)
    RESULTS.parent.mkdir(exist_ok=True)
    results = kept_results()
    for network in FAMILIES:
        if arguments.names:
            wanted = network.name in arguments.names
        else:
            wanted = arguments.again or (network.package, network.name) not in results
        if wanted:
            result = measured(network)
            with RESULTS.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
            print(table([result]).splitlines()[-1], flush=True)
    results = kept_results()
    ordered = [results[key] for network in FAMILIES if (key := (network.package, network.name)) in results]
    print(summary(ordered))
    if arguments.write:
        before, marker, _ = PAGE.read_text().partition("<!-- measured -->")
        PAGE.write_text(f"{before}{marker}\n{summary(ordered)}\n\n{table(ordered)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
