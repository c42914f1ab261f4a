"""`crp fix`: a model that relies less on a concept, or not at all."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from crp.cli import options
from crp.cli.library_subject import read_subject
from crp.cli.patch_supply import supply

if TYPE_CHECKING:
    from torch import nn

    from crp.correction.reading import Samples
    from crp.library import Library

METHODS = ("suppress", "project", "reactive", "refit", "prune")


@click.command(short_help="Correct a model that relies on a concept, and save it.")
@click.argument("library")
@click.option("--concept", metavar="LAYER/ID", help="The concept, such as conv5/37; all methods but prune need one.")
@click.option("--by", "method", type=click.Choice(METHODS), required=True, help="The method; see above.")
@click.option("--data", metavar="DATA", required=True, help="Samples to correct on, named as for `crp mine`.")
@click.option("--out", metavar="FILE", required=True, help="FILE.safetensors (weights), .pt2 or .onnx (programs).")
@click.option(
    "--usual-place",
    "placed",
    is_flag=True,
    help="With project, reactive and refit: correct the concept as it is at its usual place, for example a watermark.",
)
@click.option(
    "--refit", "refitted", is_flag=True, help="After suppress, project or reactive, also refit the last layer."
)
@click.option(
    "--from",
    "from_layer",
    metavar="LAYER",
    help="With --by refit: train this layer and all that runs after it; default: the last layer alone.",
)
@click.option("--labels", is_flag=True, help="Fit to the labels of DATA instead of the model's own predictions.")
@click.option(
    "--fill",
    type=click.Choice(("zero", "mean")),
    default="zero",
    show_default=True,
    help="With suppress: what replaces the concept.",
)
@click.option("--share", type=click.FloatRange(0, 1), help="With prune: the share of the filters to remove.")
@click.option("--layers", type=options.Names(), help="With prune: some of the library's layers; default: all.")
@click.option(
    "--samples",
    type=click.IntRange(min=40),
    default=1000,
    show_default=True,
    help="Number of samples, spread over DATA; a quarter of them is kept for measuring the result.",
)
@click.option(
    "--kind", "kind", metavar="KIND", default="channels", show_default=True, help="Kind of concept of LIBRARY."
)
@click.option("--model", metavar="MODEL", help="The mined model, named as for `crp mine`.")
@options.weights
@options.device
@click.option("--trust", is_flag=True, help="Run code that the library names. Only for libraries you trust.")
@click.option("--page", metavar="FILE.html", help="Write a page of what changed, with samples.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def fix(
    library: str,
    concept: str | None,
    method: str,
    data: str,
    out: str,
    placed: bool,
    refitted: bool,
    from_layer: str | None,
    labels: bool,
    fill: str,
    share: float | None,
    layers: tuple[str, ...] | None,
    samples: int,
    kind: str,
    page: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Make a model that relies less on a concept of LIBRARY, or not at all; save it, and say what changed.

    \b
    suppress   the concept is 0 (or its mean) for every input; weights of the same architecture where possible
    project    the direction in which activations change with the concept is removed (pattern-ClArC)
    reactive   where the concept is active, the usual activation replaces what is there; other inputs do not change
    refit      the last layer (with --from: more layers) is fitted again, on samples with the concept exchanged
    prune      the filters, of all layers, that predictions rely on least become zero; lists accuracy by share

    Removing a concept stops it from deciding, but teaches the model nothing. A class that it knew by the concept alone
    is recognised again only after `refit`, or another method with --refit. No labels are needed. The more samples
    have the concept, the lower the layer from which training is worthwhile.

    Channels that respond to a watermark often respond to other things, too. --usual-place learns a direction over all
    channels that tells the concept, at the place where it usually is, from everything else, and corrects that instead.

    \b
    Example:
        crp fix scenes.crp --concept conv5/37 --by refit --data photos/ --out fixed.safetensors
        crp fix scenes.crp --concept conv5/37 --by refit --from conv5 --samples 4000 --data photos/ --out fixed.pt2
        crp fix scenes.crp --by prune --share 0.3 --data photos/ --labels --out pruned.safetensors
    """
    sys.path.append(os.getcwd())
    from crp import correction
    from crp.concepts import ChannelConcept
    from crp.correction.writing import check_holds, checked_file, saved_lines
    from crp.files import user_path
    from crp.library import open_library
    from crp.sources.kinds import kind_named
    from crp.sources.provenance import weights_file
    from crp.visualization.page_files import replace_file
    from crp.visualization.report.fix_page import fix_report

    if refitted and method == "refit":
        raise click.UsageError("--refit is for suppress, project and reactive; --by refit does the same alone.")
    if from_layer is not None and method != "refit":
        raise click.UsageError(f"--from is for --by refit, which trains; given --by {method}.")
    pruning = method == "prune"
    _check_options(method, pruning, {"--share": share, "--layers": layers},
                   {"--concept": concept, "--refit": refitted, "--usual-place": placed})  # fmt: skip
    if placed and method == "suppress":
        raise click.UsageError("--usual-place is for project, reactive and refit: weights cannot depend on a place.")
    opened, found_kind = open_library(library), kind_named(kind)
    checked_file(out, user_path(given["weights"]) if given["weights"] else weights_file(opened))
    if method == "reactive" and out.endswith(".safetensors"):
        raise click.UsageError("--by reactive adds a module to the model: give --out a .pt2 or .onnx file.")
    layer, index = (None, None) if pruning else opened.concept_named(concept)
    pruned = [*(layers or opened.layers)] if pruning else []
    for one in pruned:
        opened.shape(one)
    subject = read_subject(opened, found_kind, given, data=data, samples=samples, labelled=labels)
    found, fitting, held_out = subject.model, subject.fitting, subject.held_out
    if pruning:
        if not isinstance(found_kind, ChannelConcept):
            raise click.UsageError(f"--by prune takes out filters, which are channels, but the concepts are {kind}.")
        _prune(found, fitting, held_out, pruned, share, opened, out, page, as_json)
        return
    watched, common = index, dict(kind=found_kind)
    if placed:
        watched, common = 0, dict(kind=correction.placed_direction(found, fitting.data, layer, index, **common))
    result = None
    if method != "refit":
        settings = {**common, "fill": fill} if method == "suppress" else common
        if method == "suppress" and fill == "mean" and opened.mean_sizes.get(layer):
            settings["means"] = opened.means(layer)
        result = getattr(correction, method)(found, fitting.data, layer, watched, **settings)
    if method == "refit" or refitted:
        result = correction.refit(
            found, fitting.data, layer, watched, labels=fitting.labels, after=result, from_layer=from_layer, **common
        )
    if placed:
        result = replace(result, method=f"{result.method}; the concept at its usual place")
    check_holds(out, result)
    figures = correction.measure_fix(found, result, held_out.data, layer, watched, labels=held_out.labels, **common)
    written = correction.write_fixed(result, out, fitting.data[:2])
    if page is not None:
        supply(opened, found, found_kind, trust=given["trust"])
        text = fix_report(figures, result.method, (layer, index), held_out.data.cpu(), opened)
        replace_file(user_path(page), lambda file: file.write(text.encode()))
    if as_json:
        click.echo(json.dumps({"method": result.method, "file": str(written), **figures.to_json()}))
        return
    click.echo(result.method)
    for line in figures.lines(opened.class_names):
        click.echo(line)
    for line in saved_lines(written):
        click.echo(line)


def _prune(
    model: nn.Module,
    fitting: Samples,
    held_out: Samples,
    layers: list[str],
    share: float,
    library: Library,
    out: str,
    page: str | None,
    as_json: bool,
) -> None:
    from crp import correction
    from crp.correction.figures_of_pruning import measure_pruning
    from crp.correction.writing import saved_lines
    from crp.files import user_path
    from crp.visualization.page_files import replace_file
    from crp.visualization.report.prune_page import prune_report

    scores = correction.relevance_scores(model, fitting.data, layers, labels=fitting.labels)
    result = correction.prune(model, fitting.data, scores, share)
    found = measure_pruning(model, result, held_out.data, scores, share, labels=held_out.labels)
    written = correction.write_fixed(result, out, fitting.data[:2])
    if page is not None:
        text = prune_report(found, result.method, held_out.data.cpu(), library)
        replace_file(user_path(page), lambda file: file.write(text.encode()))
    if as_json:
        curve = [{"share": removed, "accuracy": accuracy} for removed, accuracy in found.curve]
        layers = [{"layer": layer, "filters": count, "taken_out": gone} for layer, count, gone in found.layers]
        figures = {"share": share, "before": found.before, "after": found.after, "layers": layers, "curve": curve}
        click.echo(json.dumps({"method": result.method, "file": str(written), **figures}))
        return
    click.echo(result.method)
    truth = "as the whole model" if held_out.labels is None else "right"
    click.echo(f"{truth}: {found.before:.1%} before, {found.after:.1%} after")
    click.echo(f"filters out  {truth}")
    for removed, accuracy in found.curve:
        click.echo(f"{removed:11.0%}  {accuracy:.1%}")
    for line in saved_lines(written):
        click.echo(line)


def _check_options(method: str, pruning: bool, of_pruning: dict[str, object], of_concepts: dict[str, object]) -> None:
    """Refuse options that the method does not have, and ask for those that it needs."""
    given = [name for name, value in (of_concepts if pruning else of_pruning).items() if value not in (None, False)]
    if given:
        others = "methods that correct a concept" if pruning else "prune"
        raise click.UsageError(f"--by {method} does not take {given[0]}: that is for {others}.")
    if pruning and of_pruning["--share"] is None:
        raise click.UsageError("--by prune needs --share, the share of the filters to take out, such as 0.3.")
    if not pruning and of_concepts["--concept"] is None:
        raise click.UsageError(f"--by {method} needs --concept, such as conv5/37.")
