"""The contract of a kind of concept: one row for each kind, each through everything that uses concepts.

A row (`kind_rows.py`) states the parts of its kind once more. All else is computed here from these parts by brute
force, in float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import crp
from crp.attribution import INPUT, RelevanceFlow
from crp.concepts import ChannelConcept, ConceptKind, Layout, PositionConcept, all_but
from crp.explanations.map_computation import concepts_in_cells
from crp.graphs.concept_graph import REST
from crp.interchange import export_zennit_crp
from crp.visualization import Atlas
from tests.crp.concepts.kind_rows import ROWS, Row, kept
from tests.crp.concepts.small_nets import data, made

COUNT, K, BLOCK = 60, 4, 12


@pytest.fixture(params=[*ROWS], ids=[name.replace(" ", "-") for name in ROWS])
def row(request) -> Row:
    return ROWS[request.param]


@cache
def network(kind: type[nn.Module]) -> crp.models.PreparedModel:
    return crp.prepared(made(kind), data=data(1))


def opened(row: Row, samples: Tensor, *others: str) -> RelevanceFlow:
    return RelevanceFlow(network(row.net).replica, None, samples, [row.layer, *others])


@cache
def measured(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Relevance and part `[n, N, *shape]` of all concepts, and how active they are, `[n, N, P]`."""
    row = ROWS[name]
    with opened(row, data(COUNT)) as flow:
        arriving = flow.down(flow.output_relevance(flow.prediction.argmax(1)), to=row.layer)[0]
        activation = flow.activation(row.layer)
    found = (
        [arriving * row.share(activation, j), row.part(activation, j), row.active(activation, j)]
        for j in range(row.count)
    )
    return tuple(map(torch.stack, zip(*found, strict=True)))


def close(found: Tensor | np.ndarray, expected: Tensor | np.ndarray, tolerance: float = 1e-9) -> None:
    expected = np.asarray(expected)
    scale = max(float(np.abs(expected).max()), 1e-12)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=tolerance * scale)


def test_parts_relevance_and_rest_are_the_whole(row):
    with opened(row, data(3)) as flow:
        activation, parts = flow.activation(row.layer), flow.parts(row.layer, row.kind)
        assert parts.size == row.count
        shares = torch.stack([row.share(activation, j) for j in range(row.count)])
        close(parts.part(range(row.count)), torch.stack([row.part(activation, j) for j in range(row.count)]))
        arriving = flow.down(flow.output_relevance([1]), to=row.layer)[0]
        each = parts.carried(arriving, range(row.count))
        close(each, arriving * shares)
        close(parts.rest(arriving) + each.sum(0), arriving)
        close(parts.total(arriving), (arriving * shares).flatten(2).sum(2).T)
        close(parts.carried(arriving, [{0: 1.0, 1: -0.5}])[0], arriving * (shares[0] - 0.5 * shares[1]))
        close(parts.carried(arriving, [all_but([0])])[0], arriving * shares[1:].sum(0))


def test_conditional_heatmaps_and_that_of_the_rest_add_up_to_that_of_the_layer(row):
    with opened(row, data(2)) as flow:
        parts, arriving = flow.parts(row.layer, row.kind), flow.down(flow.output_relevance([2]), to=row.layer)[0]
        each = flow.down(parts.carried(arriving, range(row.count)), start=row.layer)
        rest = flow.down(parts.rest(arriving)[None], start=row.layer)
        close(each.sum(0) + rest[0], flow.down(arriving[None], start=row.layer)[0])


def test_the_cells_of_the_concept_map_are_sums_of_conditional_heatmaps(row):
    with opened(row, data(1)) as flow:
        arriving = flow.down(flow.output_relevance([0]), to=row.layer)[0]
        table = concepts_in_cells(flow, row.layer, arriving, 2, 4, concept=row.kind)
        masked = torch.stack([arriving * row.share(flow.activation(row.layer), j) for j in range(row.count)])
        heatmaps = flow.down(masked, start=row.layer)[:, 0].sum(1)
        close(table, heatmaps.reshape(-1, 2, 4, 4, 2).sum((2, 4)).flatten(1).T)


def test_the_edges_of_the_graph_are_what_one_concept_sends_to_another(row):
    other = "low" if row.layer == "high" else "high"
    upper, lower = ("high", "low") if other == "low" else ("high", row.layer)
    kinds = {row.layer: row.kind, other: ChannelConcept()}
    graph = crp.compose(network(row.net), data(1), [upper, lower], target=1, concept=kinds, coverage=1.0, breadth=99)
    channel = lambda values, j: kept(values.ndim - 1 if row.last else 1, None)(torch.ones_like(values), j)  # noqa: E731
    counts = {row.layer: row.count, other: made_layout(row, other).channels}
    plain = {row.layer: row.share, other: channel}

    def share(layer: str, activation: Tensor, concept: int) -> Tensor:
        if concept != REST:
            return plain[layer](activation, concept)
        return 1 - sum(plain[layer](activation, j) for j in range(counts[layer]))

    with opened(row, data(1), other) as flow:
        arriving = flow.down(flow.output_relevance([1]), to=upper)[0]
        edges = [edge for edge in graph.edges if edge.upper[0] == upper]
        assert len(edges) >= row.count
        for edge in edges:
            masked = arriving * share(upper, flow.activation(upper), edge.upper[1])
            sent = flow.down(masked[None], start=upper, to=lower)[0]
            expected = float((sent * share(lower, flow.activation(lower), edge.lower[1])).sum())
            assert edge.relevance == pytest.approx(expected, rel=1e-9, abs=1e-12)
        rest = float((arriving * share(upper, flow.activation(upper), REST)).sum())
    scale = max(abs(node.relevance) for node in graph.nodes)
    if abs(rest) > 1e-6 * scale:
        assert graph.node(upper, REST).relevance == pytest.approx(rest, rel=1e-9)
    for node in graph.nodes[1:]:  # edges of all concepts and of the rest are all relevance
        assert abs(node.rest) < 1e-9 * scale


def made_layout(row: Row, layer: str) -> Layout:
    with opened(row, data(1), layer) as flow:
        return flow.layout(layer)


# With all patches: the tests compare files with those of a library whose patches were used.
SETTINGS = dict(
    targets="prediction", k=K, patches=2, patches_now="all", block_size=BLOCK, threads=1, vectors=True, progress=False
)


def mined(row: Row, path: Path, **options: object) -> crp.Library | None:
    prepared = network(row.net)
    return crp.mine(
        prepared.model, TensorDataset(data(COUNT), torch.zeros(COUNT, dtype=torch.int64)), path=path,
        layers=[row.layer], concept=row.kind, **{**SETTINGS, **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> Callable[[str], crp.Library]:
    @cache
    def library(name: str) -> crp.Library:
        return mined(ROWS[name], tmp_path_factory.mktemp("mined") / "library")

    return library


@pytest.fixture
def library(libraries, request) -> crp.Library:
    return libraries(request.node.callspec.params["row"])


@pytest.fixture
def name(request) -> str:
    return request.node.callspec.params["row"]


def test_lists_are_those_of_all_samples_sorted(row, name, library):
    relevance, _, active = measured(name)
    totals = relevance.flatten(2).sum(2).T
    divided, strongest = totals / (totals.abs().sum(1, keepdim=True) + 1e-10), active.max(2).values.T
    for mode, scores, sign in (("relevance", divided, 1), ("activation", strongest, 1), ("negative", divided, -1)):
        found = library.references(row.layer, mode)
        for concept in range(row.count):
            listed = found.sample[concept][found.sample[concept] >= 0]
            own = scores[:, concept]
            best = sorted(range(COUNT), key=lambda n, own=own: (-sign * round(float(own[n]), 6), n))
            if mode == "negative":
                best = [n for n in best if own[n] < 0]
            assert len(listed) == min(K, len(best))
            expected = own[best[: len(listed)]]
            np.testing.assert_allclose(found.score[concept][: len(listed)], expected, rtol=1e-5, atol=1e-7)
            clear = len({round(float(own[n]), 5) for n in best[:K]}) == len(best[:K])
            assert not clear or listed.tolist() == best[:K]
            for place, sample in enumerate(listed.tolist()):
                where = sign * row.positions(relevance[concept, sample, None])[0].sum(1)
                where = active[concept, sample] if mode == "activation" else where
                position = int(found.position[concept, place])
                if row.masks and isinstance(row.kind, PositionConcept):
                    assert position == concept
                else:
                    assert float(where[position]) >= float(where.max()) - 1e-6 * float(where.abs().max())


def test_the_heatmap_of_a_patch_is_the_relevance_of_the_concept_at_its_position(row, name, library):
    relevance, parts, _ = measured(name)
    starts, patches, rows = torch.zeros(0, *relevance.shape[1:]), [], {}
    for concept in range(row.count):
        for mode in ("relevance", "activation", "negative"):
            for patch in library.patches(row.layer, concept, mode):
                space = library.layout(row.layer).space
                position = int(np.ravel_multi_index(patch.position, library.space(row.layer)))
                start = (parts if mode == "activation" else relevance)[concept, patch.sample]
                here = torch.arange(int(np.prod(space))) == position
                here = here.view(*space, 1) if row.last else here.view(1, *space)
                # samples do not mix: one pass takes a start for each of them
                patches.append((patch, number := rows.get(patch.sample, 0)))
                rows[patch.sample] = number + 1
                if number == len(starts):
                    starts = torch.cat([starts, torch.zeros_like(relevance[:1])])
                starts[number, patch.sample] = start * here
    with opened(row, data(COUNT)) as flow:
        heatmaps = flow.down(starts, start=row.layer, to=INPUT).sum(2)
    for patch, number in patches:
        top, left, bottom, right = patch.box
        cut = heatmaps[number, patch.sample, top:bottom, left:right]
        expected = cut / cut.abs().max() if float(cut.abs().max()) else cut
        np.testing.assert_allclose(patch.heatmap, expected, atol=0.51 / 127)
    assert len(patches) >= 4 * row.count


def test_references_are_the_same_in_the_files_of_zennit_crp(row, library, tmp_path):
    export_zennit_crp(library, tmp_path)
    for mode, folder in (("relevance", "RelMax"), ("activation", "ActMax")):
        found = library.references(row.layer, mode)
        for name, expected in (("data", found.sample), ("rf", found.position), ("rel", found.score)):
            (file,) = tmp_path.glob(f"{folder}*/{row.layer}_{name}.npy")
            np.testing.assert_array_equal(np.load(file), expected.T)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# How results are joined does not ask for the kind. These stand for all: parts that are masks, a module's input,
# directions, and zennit-crp's methods.
JOINED = ("channels first", "heads", "TopK latents", "of zennit-crp's style")
SOME = pytest.mark.parametrize(
    "row",
    [pytest.param(name, id=name.replace(" ", "-"), marks=[] if name in JOINED else pytest.mark.slow) for name in ROWS],
    indirect=True,
)


@SOME
def test_shards_make_the_same_library(row, library, tmp_path):
    prepared = network(row.net)
    for part in (1, 2):
        mined(row, tmp_path / "shared", shard=(part, 2))
    samples = TensorDataset(data(COUNT), torch.zeros(COUNT, dtype=torch.int64))
    crp.merge(
        prepared.model, samples, path=tmp_path / "shared", concept=row.kind, patches_now="all", progress=False,
    )  # fmt: skip
    assert digests(tmp_path / "shared") == digests(library.path)


@SOME
def test_a_run_that_was_interrupted_resumes_to_the_same_library(row, library, tmp_path):
    class Failing(TensorDataset):
        failing = True

        def __getitem__(self, index):
            if self.failing and index == 3 * BLOCK:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    prepared = network(row.net)
    samples = Failing(data(COUNT), torch.zeros(COUNT, dtype=torch.int64))

    def run() -> None:
        crp.mine(
            prepared.model, samples, path=tmp_path / "again", layers=[row.layer], concept=row.kind,
            checkpoint=0, **SETTINGS,
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        run()
    Failing.failing = False
    run()
    assert digests(tmp_path / "again") == digests(library.path)


def test_explanations_and_the_page_say_which_part_belongs_to_no_concept(row, name, library, tmp_path):
    found = crp.explain(network(row.net), data(1)[0], library, concept=row.kind, graph=True)
    (layer,) = found.layers
    with opened(row, data(1)) as flow:
        target = int(flow.prediction.argmax())
        arriving = flow.down(flow.output_relevance([target]), to=row.layer)[0]
        share = [row.share(flow.activation(row.layer), j) for j in range(row.count)]
        for part in layer.ranked:
            masked = arriving * share[part.concept]
            assert part.relevance == pytest.approx(float(masked.sum()), rel=1e-9)
            heatmap = flow.down(masked[None], start=row.layer)[0, 0].sum(0)
            close(part.heatmap, heatmap, 1e-5)
        outside = float(arriving.sum() - sum((arriving * each).sum() for each in share))
    assert layer.outside == pytest.approx(outside, abs=1e-9 * float(arriving.abs().sum()))
    if name not in JOINED:  # a page does not ask for the kind, either
        return
    Atlas(found).save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    sentences = ("arrives here belongs to no concept.", "belongs to no concept; that of all concepts together is")
    said = any(sentence in text for sentence in sentences)
    assert said == (abs(outside) > 1e-3 * abs(float(arriving.sum())))


def mean_part(row: Row, activation: Tensor, concept: int) -> Tensor:
    """Mean part over samples, and over positions unless each concept has its own: `[N, *shape]` -> `[1, *shape]`."""
    part = row.part(activation, concept)
    if isinstance(row.kind, PositionConcept) or not isinstance(row.kind, ConceptKind):
        return part.mean(0, keepdim=True)
    axes = [0, *range(1, part.ndim - 1)] if row.last else [0, *range(2, part.ndim)]
    return part.mean(axes, keepdim=True).expand(1, *part.shape[1:])


def test_the_library_holds_the_mean_part_of_each_concept(row, library):
    means = library.means(row.layer)
    assert means.samples == COUNT
    with opened(row, data(COUNT)) as flow:
        activation, filled = flow.activation(row.layer), flow.parts(row.layer, row.kind).of_means(means)
    expected = torch.stack([mean_part(row, activation, j) for j in range(row.count)])
    close(filled.part(range(row.count)), expected)
    close(filled.part([{0: 1.0, 1: -0.5}])[0], expected[0] - 0.5 * expected[1])


def test_the_model_without_a_concept_is_the_model_with_a_hook_that_takes_it_away(row, library):
    model, samples, others = made(row.net), data(3), data(6)[3:]
    means = library.means(row.layer)

    def hooked(change: Callable[[Tensor], Tensor]) -> Tensor:
        module = model.get_submodule(row.layer.removesuffix("..input"))
        hook = (
            module.register_forward_pre_hook(lambda _, args: (change(args[0]),))
            if row.layer.endswith("..input")
            else module.register_forward_hook(lambda _, args, out: change(out))
        )
        with torch.no_grad():
            found = model(samples)
        hook.remove()
        return found

    with opened(row, samples) as flow, opened(row, others) as second:
        at_others = second.activation(row.layer)
        fills = flow.parts(row.layer, row.kind).of_means(means).part(range(row.count))
        ids = list(range(row.count))
        by_zero = flow.without(row.layer, ids, concept=row.kind)
        by_mean = flow.without(row.layer, ids, concept=row.kind, by=means)
        by_others = flow.without(row.layer, ids, concept=row.kind, by=others)
        by_one = flow.without(row.layer, ids, concept=row.kind, by=others[1:2])
        alone = flow.only(row.layer, ids, concept=row.kind)
        kept_of = {0: 1.0, 1: 0.5}
        half = flow.only(row.layer, [kept_of], concept=row.kind, by=means)[0]
    for j in ids:
        close(by_zero[j], hooked(lambda out, j=j: out - row.part(out, j)), 1e-12)
        close(by_mean[j], hooked(lambda out, j=j: out - row.part(out, j) + fills[j]), 1e-12)
        close(by_others[j], hooked(lambda out, j=j: out - row.part(out, j) + row.part(at_others, j)), 1e-12)
        close(by_one[j], hooked(lambda out, j=j: out - row.part(out, j) + row.part(at_others[1:2], j)), 1e-12)
        close(
            alone[j],
            hooked(lambda out, j=j: out - sum(row.part(out, other) for other in ids if other != j)),
            1e-12,
        )
    close(
        half,
        hooked(lambda out: out - sum((1 - kept_of.get(j, 0)) * (row.part(out, j) - fills[j]) for j in ids)),
        1e-12,
    )
