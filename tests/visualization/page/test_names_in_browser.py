"""Named concepts, and the graph's node of what belongs to no concept, in a real browser."""

import dataclasses

import pytest

import example_explanations as examples
from crp.graphs.concept_graph import NO_CONCEPT, REST, GraphEdge
from crp.visualization import graph_wording
from crp.visualization.atlases import Atlas
from page_in_browser import VIEW, caption, frame


@pytest.fixture(scope="module")
def explanation():
    value = examples.explanation(patches=1, layers=("conv",))
    layer, graph = value.layers[0], value.graph
    names = tuple(f"<i>name {concept}</i>" for concept in range(layer.size))
    root = graph.root.key
    rest = dataclasses.replace(graph.nodes[1], concept=REST, relevance=0.3, share=0.15, rest=0.0, name=NO_CONCEPT)
    graph = dataclasses.replace(
        graph, nodes=(*graph.nodes, rest), edges=(*graph.edges, GraphEdge(root, rest.key, 0.3, 0.15, 1.0))
    )
    return dataclasses.replace(value, layers=(dataclasses.replace(layer, names=names),), graph=graph)


@pytest.fixture(scope="module")
def file(explanation, tmp_path_factory):
    return Atlas(explanation).save(tmp_path_factory.mktemp("named") / "atlas.html")


def test_names_are_said_and_found_and_the_rest_is_looked_at(page, explanation):
    part = explanation.layers[0].ranked[0]
    page.hover(f"#layer-0-concept-{part.concept} .where")
    assert caption(page).startswith(f"<i>name {part.concept}</i> of conv ")
    page.hover(f'{VIEW} .node[data-concept="-1"]')
    sentence = graph_wording.node_sentence(explanation.graph, explanation.graph.node("conv", REST))
    assert sentence.startswith("conv no concept: +15.0")
    assert (frame(page), caption(page)) == ("concept", sentence)
    assert page.run(f"document.querySelector('{VIEW} .graph .about').textContent") == sentence
    page.run("document.getElementById('search').focus()")
    page.run(
        f"(() => {{ const field = document.getElementById('search'); field.value = 'name {part.concept}<';"
        " field.dispatchEvent(new Event('input')); })()"
    )
    found = page.run("[...document.querySelectorAll('#found button')].map(each => each.textContent)")
    assert len(found) == 1
    assert f"<i>name {part.concept}</i>" in found[0]
