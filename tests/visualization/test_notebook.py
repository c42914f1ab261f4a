"""What a notebook is given: text in words, hostile names escaped."""

import base64
import html
import re

import example_explanations as examples
from crp.visualization import graph_wording, wording
from crp.visualization.atlases import Atlas


def test_a_graph_shows_itself_as_a_picture_with_words():
    graph = examples.explanation(names=(examples.HOSTILE,), patches=1).graph
    text = graph._repr_html_()
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert "<script>" not in text
    sentence = wording.printable(graph_wording.graph(graph))
    assert html.unescape(re.search(r'alt="([^"]*)"', text)[1]) == sentence
    assert html.unescape(re.search(r"<bdi>(.*)</bdi>", text)[1]) == sentence


def test_a_graph_says_in_one_line_what_it_is():
    graph = examples.explanation(patches=1).graph
    assert repr(graph) == "<ConceptGraph of 'zebra': 7 nodes, 12 edges, (output), layer3, layer4>"


def test_an_atlas_shows_itself_in_a_frame_of_its_own():
    text = Atlas(examples.explanation(names=(examples.HOSTILE,), patches=1))._repr_html_()
    assert text.startswith('<iframe title="Concept atlas" sandbox="allow-scripts allow-downloads"')
    assert text.count("<") == 2  # the frame's tag and its end: everything else is the text of an attribute
