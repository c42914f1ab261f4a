"""One library with a kind of concept for each layer."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import crp
from crp.concepts import ChannelConcept, Directions, HeadConcept, TokenConcept
from crp.errors import InputError, LibraryError
from crp.graphs.concept_graph import REST
from crp.library.summary import described_in_words
from crp.sources.kinds import kinds_named, layers_named
from crp.visualization import Atlas
from tests.crp.concepts.kind_rows import DICTIONARY, TOP
from tests.crp.concepts.small_nets import Transformer, data, made

NAMES = tuple(f"<latent {index}>" for index in range(9))
KINDS = {
    "attention.proj..input": HeadConcept(2),
    "low": TokenConcept(),
    "mlp": ChannelConcept(),
    "high": Directions(DICTIONARY, TOP, NAMES),
}


def mined(path, layers, **options):
    samples = TensorDataset(data(20), torch.zeros(20, dtype=torch.int64))
    how = {"targets": "prediction", "k": 3, "patches": 1, "block_size": 10, "threads": 1, "progress": False}
    return crp.mine(made(Transformer), samples, path=path, layers=layers, **how, **options)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return mined(tmp_path_factory.mktemp("several") / "library", KINDS)


def test_each_layer_is_as_mined_alone(library, tmp_path):
    for number, (layer, kind) in enumerate(KINDS.items()):
        alone = mined(tmp_path / str(number), [layer], concept=kind)
        for table in ("references", "statistics", "patches"):
            ours, theirs = (hashlib.sha256(one.file(layer, table).read_bytes()) for one in (library, alone))
            assert ours.hexdigest() == theirs.hexdigest(), (layer, table)
        assert alone.kind(layer) == library.kind(layer)
        assert alone.names == {layer: library.names[layer]}
    assert library.manifest["settings"]["concept"] == "several kinds"
    assert library.names["mlp"] == ()
    assert library.concept_name("high", 3) == "<latent 3>"
    assert library.concept_name("low", 4) == "token at 1, 1"
    assert "names of high: '<latent 0>', '<latent 1>'" in described_in_words(library)


def test_an_explanation_is_by_the_kind_of_each_layer_and_its_graph_adds_up(library, tmp_path):
    model = crp.prepared(made(Transformer), library=library)
    found = crp.explain(model, data(1)[0], library, concept=KINDS)
    sizes = {layer.layer: (layer.size, layer.name_of(1)) for layer in found.layers}
    assert sizes == {
        "high": (9, "<latent 1>"), "mlp": (6, ""), "low": (5, "token at 0, 0"),
        "attention.proj..input": (2, "head 1"),
    }  # fmt: skip
    with crp.RelevanceFlow(model.replica, None, data(1), [*KINDS]) as flow:
        arriving = flow.down(flow.output_relevance(flow.prediction.argmax(1)), to=[*KINDS])
        for layer in found.layers:
            parts = flow.parts(layer.layer, KINDS)
            np.testing.assert_allclose(layer.relevance, parts.total(arriving[layer.layer][0])[0], rtol=1e-9)
    graph = crp.compose(
        model, data(1), [*KINDS], target=0, concept=KINDS, coverage=1.0, breadth=99, library=library
    )
    scale = max(abs(node.relevance) for node in graph.nodes)
    assert graph.node("high", REST) is not None
    assert {node.layer for node in graph.nodes if node.name and not node.is_rest} >= {"high", "low"}
    for node in graph.nodes[1:]:
        assert abs(node.rest) < 1e-9 * scale
    page = Atlas(found).save(tmp_path / "page.html").read_text()
    assert "&lt;latent" in page
    assert "<latent" not in page


def test_one_condition_names_concepts_of_several_kinds():
    model = made(Transformer)
    attribution = crp.ConditionalAttribution(model)
    weights = {latent: 1.0 - 0.2 * latent for latent in range(9)}  # whichever two of them are active
    conditions = [{"high": weights, "low": [2], "attention.proj..input": [1], "y": [0]}]
    composite = crp.composite_for(model, data(1), rules="epsilon-plus-flat").composite  # one set of rules all the way
    found = attribution(data(1), conditions, composite, mask_map=KINDS).heatmap
    with crp.RelevanceFlow(model, composite, data(1), [*KINDS]) as flow:
        relevance = flow.down(flow.output_relevance([0]), to="high")[0]
        for upper, chosen, lower in (
            ("high", weights, "low"),
            ("low", [2], "attention.proj..input"),
            ("attention.proj..input", [1], crp.attribution.INPUT),
        ):
            masked = flow.parts(upper, KINDS).carried(relevance, [chosen])
            relevance = flow.down(masked, start=upper, to=lower)[0]
    np.testing.assert_allclose(found[0], relevance[0].sum(0), rtol=0, atol=1e-9 * float(found.abs().max()))
    assert float(found.abs().max()) > 0


def test_other_kinds_are_refused(library):
    model = crp.prepared(made(Transformer), library=library)
    where = "at layer 'attention.proj..input', concepts of the kind HeadConcept, given ChannelConcept."
    with pytest.raises(LibraryError, match=re.escape(where)):
        crp.explain(model, data(1)[0], library)
    with pytest.raises(LibraryError, match=r"at layer 'high', other concepts of the kind Directions \(fingerprint "):
        crp.explain(model, data(1)[0], library, concept={**KINDS, "high": Directions(DICTIONARY, TOP)})
    with pytest.raises(InputError, match=r"^No kind of concept is given for layer 'low': there are 'high'\.$"):
        crp.explain(model, data(1)[0], library, layers=["high", "low"], concept={"high": KINDS["high"]})
    with pytest.raises(InputError, match=r"^Kinds of concept are given twice, as layers= and as concept=\.$"):
        mined("never", KINDS, concept=TokenConcept())


def test_kinds_on_the_command_line():
    given = ("low=tokens", "attention.proj..input=heads:2")
    assert layers_named(given) == ("low", "attention.proj..input")
    kinds = kinds_named(given, KINDS)
    assert list(kinds) == list(KINDS)
    assert (kinds["low"], kinds["attention.proj..input"]) == (TokenConcept(), HeadConcept(2))
    assert isinstance(kinds["mlp"], ChannelConcept)
    assert kinds_named(("tokens",), KINDS) == TokenConcept()
    for words, sentence in (
        (("low=tokens", "low=channels"), "Two kinds of concept are given for layer 'low'."),
        (("tokens", "heads:2"), "Two kinds of concept are given for all layers."),
        (("lew=tokens",), "'lew=tokens' names no layer: did you mean 'low'?"),
    ):
        with pytest.raises(InputError) as caught:
            kinds_named(words, KINDS)
        assert str(caught.value) == sentence
