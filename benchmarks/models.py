"""`python -m benchmarks.models`: which published architectures can be explained, measured one by one.

Each network of `model_families.py` is built with random weights and explained in float64. Results are kept in
`.bench/models.jsonl` as they come, so that an interrupted run goes on where it stopped, and `--write` puts them into
docs/models.md. Networks of timm need timm (`pip install timm`).
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from benchmarks.machine import moment
from benchmarks.model_families import FAMILIES, OTHER, TIMM, TORCHVISION, Network
from crp.attribution import INPUT, OUTPUT, RelevanceFlow, composite_for
from crp.attribution.copies import replicate
from crp.attribution.ledger import RANGE
from crp.attribution.observation import observe
from crp.attribution.operation_composite import OperationComposite, network_kind

if TYPE_CHECKING:
    from zennit.core import Hook  # at run time crp.attribution has to come first

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / ".bench" / "models.jsonl"
PAGE = ROOT / "docs" / "models.md"
SECONDS = 600

# Differences that rounding explains in float64: of a sum over all operations, and of outputs.
CLOSED, EQUAL = 1e-9, 1e-12
# Outputs may differ by more, up to so many times what the model's own output changes if its input is rounded.
ROUNDINGS = 4
# The rules for heatmaps should keep relevance within `RANGE`: the median over so many inputs.
INPUTS = 3


class EpsilonEverywhere(OperationComposite):
    """The epsilon rule at every linear operation: nothing is left out, so what does not arrive is in the ledger."""

    def linear_rule(self, module: nn.Module, name: str, first: bool) -> Hook:
        """Return the epsilon rule."""
        return self._epsilon


@dataclass(frozen=True)
class Largest:
    """A start: for `[N, classes]` the largest logit; else the class that is largest at most places, at those places."""

    def relevance(self, prediction: Tensor) -> Tensor:
        """Return the relevance that starts, in the output's shape."""
        largest = prediction.argmax(1)
        classes = largest.view(len(largest), -1).mode(1).values.view(-1, *[1] * (largest.ndim - 1))
        kept = torch.zeros_like(prediction, dtype=torch.bool)
        kept.scatter_(1, classes.expand_as(largest)[:, None], (largest == classes)[:, None])
        return prediction * kept

    def name(self, class_names: Sequence[str]) -> str:
        """Describe what starts."""
        return "the largest output"


@dataclass
class Result:
    """One network, measured."""

    package: str
    name: str
    shape: str = ""
    output: float | None = None
    rounding: float = 0.0
    closing: float | None = None
    absorbed: float | None = None
    arriving: float | None = None
    lowest: float | None = None
    highest: float | None = None
    lowest_ranking: float | None = None
    highest_ranking: float | None = None
    extreme: str = ""
    places: int = 0
    losses: str = ""
    departure: str = ""
    notes: Sequence[str] = ()
    seconds: float = 0.0
    commit: str = ""
    error: str = ""

    @property
    def closes(self) -> bool:
        """Whether the output is the model's own and the ledger closes, up to rounding."""
        exact = not self.error and self.output <= max(EQUAL, ROUNDINGS * self.rounding)
        return exact and self.closing <= CLOSED

    @property
    def stays(self) -> bool:
        """Whether relevance for heatmaps stays within `RANGE` wherever all of it passes."""
        return _within(self.lowest, self.highest)

    @property
    def ranking_stays(self) -> bool:
        """Whether relevance that ranks concepts does."""
        return _within(self.lowest_ranking, self.highest_ranking)


def _within(lowest: float | None, highest: float | None) -> bool:
    return lowest is not None and RANGE[0] <= lowest and highest <= RANGE[1]


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


def measured(network: Network, seconds: int) -> Result:
    """Build a network and explain its largest logit, within some seconds of processor time.

    Whatever the network raises becomes the error of its result.
    """
    result = Result(network.package, network.name, commit=moment()["commit"])
    started = time.process_time()
    try:
        with _limited(seconds):
            torch.manual_seed(0)
            model, shape = network.build()
            result.shape = "×".join(map(str, shape))
            data = torch.randn(1, *shape, dtype=torch.float64)
            model = randomized(model.double(), data)
            measure(model, data, result)
    except Exception as error:
        result.error = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    result.seconds = round(time.process_time() - started, 1)
    return result


def measure(model: nn.Module, data: Tensor, result: Result) -> None:
    """Explain one input, and enter what is found into a result."""
    with torch.no_grad():
        expected = model(data.clone())
        rounded = model(data * (1 + torch.randn_like(data) * torch.finfo(data.dtype).eps / 2))
    result.rounding = float((rounded - expected).abs().max() / expected.abs().max())
    epsilon = EpsilonEverywhere(network_kind(observe(replicate(model), data).linear))
    with RelevanceFlow(model, epsilon, data) as flow:
        result.notes = flow.notes
        result.output = float((flow.prediction - expected).abs().max() / expected.abs().max())
        ledger = flow.ledger(flow.output_relevance(Largest()))
    result.closing = abs(ledger.unaccounted / ledger.started)
    result.absorbed = ledger.absorbed / ledger.started
    measure_default(model, data, result)
    values = (result.output, result.closing, result.absorbed, result.arriving)
    if not all(value == value and abs(value) < float("inf") for value in values):
        raise ArithmeticError(f"a result is not finite: {values}")


def measure_default(model: nn.Module, data: Tensor, result: Result) -> None:
    """Enter how much relevance arrives with the default rules at the input and wherever all of it passes.

    By the rules for heatmaps at all of these places, and by those that rank concepts at the layers.
    """
    data = torch.cat([data, torch.randn(INPUTS - len(data), *data.shape[1:], dtype=data.dtype)])
    composite = composite_for(model, data).composite
    with RelevanceFlow(model, composite, data, _readable(model, data)) as flow:
        # tokens of all samples may share the first axis
        whole = [layer for layer in flow.layers if len(flow.activation(layer)) == len(data)]
        places = [layer for layer in whole if not flow.reaches(OUTPUT, INPUT, around=[layer])]
        started = flow.output_relevance(Largest())
        sums = started[0].flatten(1).sum(1)

        def shares(arrived: Tensor) -> Tensor:
            return arrived.flatten(1).sum(1) / sums

        ends = [flow.tensors(place)[0] for place in (*places, INPUT)]
        arrived = torch.autograd.grad(flow.tensors(OUTPUT)[1], ends, started[0], retain_graph=True)
        maps = {place: shares(part) for place, part in zip((*places, INPUT), arrived, strict=True)}
        sizes = {place: float(found.abs().median()) for place, found in maps.items()}
        result.extreme = max(sizes, key=lambda place: abs(math.log(sizes[place] or 1e-300)))
        median = maps[result.extreme].abs().median(0).indices
        sample = one_hot(median, len(data)).view(1, -1, *[1] * (started.ndim - 2))
        ledger = flow.ledger(started * sample)
        ranking = [float(shares(part[0]).abs().median()) for part in flow.down(started, to=places).values()]
    result.arriving, result.places = float(maps[INPUT].median()), len(places)
    result.lowest, result.highest = min(sizes.values()), max(sizes.values())
    if ranking:
        result.lowest_ranking, result.highest_ranking = min(ranking), max(ranking)
    found = ledger.departure()
    if found is not None:
        result.departure = f"{found.left:.2g} left below `{found.module or 'the model itself'}` ({found.operation})"
    parts = [f"{part:.2g} in `{module or 'the model itself'}`" for module, part in ledger.absorbers(3, 0.01)]
    result.losses = f"absorbed (added, if negative): {', '.join(parts)}"


def _readable(model: nn.Module, data: Tensor) -> list[str]:
    """List the modules that are called once and give one tensor that depends on the input."""
    copy, calls, unreadable = replicate(model), Counter(), set()

    def follow(name: str, output: object) -> None:
        calls[name] += 1
        if not isinstance(output, Tensor) or not output.requires_grad:
            unreadable.add(name)

    for name, module in copy.named_modules():
        module.register_forward_hook(lambda module, args, output, name=name: follow(name, output))
    copy(data[:1].clone().requires_grad_())
    return [name for name, count in calls.items() if name and count == 1 and name not in unreadable]


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError inside the context after some seconds of processor time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def kept_results() -> dict[tuple[str, str], Result]:
    """Read what was measured; of several results of one network the last."""
    if not RESULTS.exists():
        return {}
    results = [Result(**json.loads(line)) for line in RESULTS.read_text().splitlines()]
    return {(result.package, result.name): result for result in results}


def table(results: Sequence[Result]) -> str:
    """Write results as a Markdown table."""
    names = "network", "input", "output", "ledger", "absorbed", "arriving", "places", "ranking", "s", "notes"
    lines = [f"| {' | '.join(names)} |", "| --- " * len(names) + "|"]
    for result in results:
        if result.error:
            numbers = ["–"] * 6
        else:
            arriving = "–" if result.arriving is None else f"{result.arriving:.2g}"
            places = _span(result.lowest, result.highest), _span(result.lowest_ranking, result.highest_ranking)
            numbers = [f"{result.output:.0e}", f"{result.closing:.0e}", f"{result.absorbed:.2g}", arriving, *places]
        lost = [] if result.stays else [f"{result.departure or 'Nowhere below 0.1 or above 3'}; {result.losses}."]
        notes = (result.error or " ".join([*result.notes, *lost])).replace("|", "\\|")
        row = [f"{result.package} `{result.name}`", result.shape, *numbers, f"{result.seconds:.0f}", notes]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _span(lowest: float | None, highest: float | None) -> str:
    return "–" if lowest is None else f"{lowest:.2g} to {highest:.2g}"


def summary(results: Sequence[Result]) -> str:
    """Count the results, by package and altogether."""
    groups = {
        "classifiers of torchvision": TORCHVISION, "networks of timm": TIMM, "others": OTHER,
    }  # fmt: skip
    counts = []
    for group, networks in groups.items():
        keys = {(network.package, network.name) for network in networks}
        found = [result for result in results if (result.package, result.name) in keys]
        counts.append(f"{sum(result.closes for result in found)} of {len(networks)} {group}")
    known = [result for result in results if result.lowest is not None]
    outside = [f"`{result.name}`" for result in known if not result.stays]
    failed = [f"`{result.name}`" for result in results if result.error]
    named = sum(any(note.startswith("Without a rule") for note in result.notes) for result in results)
    ranked = [result for result in results if result.lowest_ranking is not None]
    commits = [commit for commit, _ in Counter(result.commit for result in results).most_common()]
    return (
        f"{', '.join(counts)} have the model's own output and a ledger that closes to {CLOSED:.0e} or better. "
        f"Networks with functions that have no rule, which the notes name: {named}. Networks that could not be "
        f"explained: {', '.join(failed) or 'none'}. In heatmaps, relevance stays between {RANGE[0]} and {RANGE[1]} "
        f"times what started in {len(known) - len(outside)} of the {len(known)} where this was measured. It does not "
        f"in {', '.join(outside) or 'any other'}. Relevance that ranks concepts stays there in "
        f"{sum(result.ranking_stays for result in ranked)} of {len(ranked)}. Measured at commit {', '.join(commits)}."
    )


def main(given: Sequence[str] | None = None) -> int:
    """Measure the networks that have no result yet, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="only these networks, again even if they have a result")
    limit = f"limit of processor time for one network (default {SECONDS})"
    parser.add_argument("--seconds", type=int, default=SECONDS, help=limit)
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
            result = measured(network, arguments.seconds)
            gc.collect()  # a network in a reference cycle may take gigabytes
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
