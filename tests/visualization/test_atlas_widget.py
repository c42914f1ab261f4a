"""The widget of a notebook: what is brushed on the page is ranked in Python, and what Python selects is on the page."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import example_explanations as examples
from browsing import CONTROL, SHIFT
from crp.errors import InputError
from crp.media.medium import Axis, Medium
from crp.visualization import Atlas, atlas_widget
from crp.visualization.inputs.spectrogram_pages import SpectrogramPages
from crp.visualization.package_files import template_files
from page_in_browser import at

# What a notebook is to a widget's module: a model with get, set, on, off and save_changes, and an element.
HOST = """<!doctype html><meta charset="utf-8"><title>notebook</title>
<style>body { margin: 20px } div { width: 1200px }</style><body><script type="module">
const state = STATE, listeners = new Set(), changed = name => {
  for (const one of [...listeners]) if (one.event === `change:${name}`) one.call();
};
window.saved = [];
window.frames_ready = 0;
window.addEventListener("message", event => { if (event.data?.crpAtlas === "ready") frames_ready += 1; });
window.model = {
  get: name => state[name],
  set(name, value) { state[name] = value; changed(name); },
  on: (event, call) => listeners.add({ event, call }),
  off: (event, call) => { for (const one of [...listeners]) if (one.call === call) listeners.delete(one); },
  save_changes: () => saved.push(state.selection),
};
window.heard = () => listeners.size;
const { default: widget } = await import(URL.createObjectURL(new Blob([CODE], { type: "text/javascript" })));
window.shown = () => {
  const el = document.createElement("div");
  document.body.append(el);
  return widget.render({ model, el });
};
window.done = shown();
</script>"""


@pytest.fixture(scope="module")
def atlas():
    return Atlas(examples.beside(examples.explanation(patches=2), patches=2))


@pytest.fixture(scope="module")
def cell_at(atlas, browser, tmp_path_factory):
    """Where the cells of the first frame are: where they are on the same page, beyond the margin of the notebook."""
    browser.open(atlas.save(tmp_path_factory.mktemp("page") / "atlas.html"), width=1200, height=860)
    places = {(row, column): at(browser, row, column) for row in range(7) for column in range(7)}
    assert browser.run("scrollY") == 0
    return lambda row, column: tuple(20 + value for value in places[row, column])


@pytest.fixture
def notebook(browser, atlas, cell_at, tmp_path):
    state = {"frame": atlas._repr_html_(), "selection": {"view": 0, "layer": "layer3", "cells": []}}
    page = HOST.replace("CODE", json.dumps(template_files()["widget.js"].decode()))
    file = tmp_path / "notebook.html"
    state = json.dumps(state).replace("</", "<\\/")  # "</" in a script could end it
    file.write_text(page.replace("STATE", state, 1), encoding="utf-8")
    browser.open(file, height=920)
    assert becomes(browser, "frames_ready", 1) == 1
    painted(browser)
    yield browser
    assert browser.complaints == []


def painted(page):
    """Wait until a frame has done what a message tells it, and is painted: only then the mouse reaches it.

    The notebook cannot look into the frame, so it waits for longer than this takes, and for two frames of its own.
    """
    page.run("new Promise(done => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 300))")


def becomes(page, expression, value):
    """Frames tell one another by messages: wait until an expression has a value, and return what it has in the end."""
    return page.run(
        f"(async () => {{ let now; for (let turn = 0; turn < 300; turn++) {{ now = {expression};"
        f" if (JSON.stringify(now) === {json.dumps(json.dumps(value, separators=(',', ':')))}) break;"
        " await new Promise(done => setTimeout(done, 10)); } return now; })()"
    )


def last(page, *cells, view=0, layer="layer3"):
    wanted = {"view": view, "layer": layer, "cells": list(cells)}
    return becomes(page, "saved.at(-1) ?? null", wanted) == wanted


def test_what_is_brushed_by_mouse_and_keyboard_is_set_on_the_model(notebook, cell_at):
    notebook.drag(cell_at(1, 2), cell_at(2, 3))
    assert last(notebook, 9, 10, 16, 17)
    notebook.press("ArrowRight")
    notebook.press("ArrowRight", SHIFT)
    assert last(notebook, 10, 11)
    notebook.press("ArrowDown", SHIFT)
    assert last(notebook, 10, 11, 17, 18)
    notebook.press("Escape")
    assert last(notebook)


def test_what_python_selects_is_on_the_page(notebook, cell_at):
    there = {"view": 1, "layer": "layer4", "cells": [0, 48]}
    notebook.run(f"model.set('selection', {json.dumps(there)})")
    painted(notebook)
    # adding a cell hands over the others, the layer and the view, too; the page says nothing of its own
    notebook.drag(cell_at(3, 3), cell_at(3, 3), CONTROL)
    assert last(notebook, 0, 24, 48, view=1, layer="layer4")
    assert notebook.run("saved.length") == 1


def test_two_cells_of_a_notebook_show_one_selection(notebook, cell_at):
    notebook.drag(cell_at(1, 2), cell_at(1, 2))
    assert last(notebook, 9)
    notebook.run("window.again = shown()")
    assert becomes(notebook, "frames_ready", 2) == 2
    # the first frame may have scrolled, so that what the cell gives is in sight: the next cell is reached by keyboard
    painted(notebook)
    notebook.press("ArrowRight")
    notebook.press(" ", CONTROL)
    assert last(notebook, 9, 10)
    # the second frame, moved to where the first was, has what was selected in the first
    notebook.run("document.querySelector('div').remove()")
    notebook.run("done()")
    assert notebook.run("heard()") == 1
    painted(notebook)
    notebook.drag(cell_at(5, 0), cell_at(5, 0), CONTROL)
    assert last(notebook, 9, 10, 35)


def test_a_frame_that_is_loaded_again_shows_what_was_selected(notebook, cell_at):
    notebook.drag(cell_at(1, 2), cell_at(1, 2))
    assert last(notebook, 9)
    notebook.run("document.body.prepend(document.querySelector('div'))")  # moving a frame loads it again
    assert becomes(notebook, "frames_ready", 2) == 2
    painted(notebook)
    notebook.drag(cell_at(1, 3), cell_at(1, 3), CONTROL)
    assert last(notebook, 9, 10)


def test_a_widget_that_is_gone_hears_nothing(notebook):
    notebook.run("done()")
    assert notebook.run("heard()") == 0
    source = "document.querySelector('iframe').contentWindow"
    notebook.run(f"dispatchEvent(new MessageEvent('message', {{ data: {{ crpAtlas: {{}} }}, source: {source} }}))")
    assert notebook.run("saved") == []


def test_messages_of_others_are_not_taken_for_selections(notebook):
    notebook.run("dispatchEvent(new MessageEvent('message', { data: { crpAtlas: { cells: [1] } }, source: window }))")
    notebook.run("dispatchEvent(new MessageEvent('message', { data: null, source: frames[0] }))")
    assert notebook.run("saved") == []


# Python's side


@pytest.fixture(scope="module")
def anywidget():
    return pytest.importorskip("anywidget", reason="the widget needs anywidget: pip install anywidget")


def told(widget, cells, view=0, layer="layer3"):
    """What a notebook does when the page has told a selection."""
    widget.set_state({"selection": {"view": view, "layer": layer, "cells": cells}})


@pytest.mark.usefixtures("anywidget")
def test_a_selection_of_the_page_is_ranked(atlas):
    widget = atlas.widget()
    assert (widget.view, widget.layer, widget.ranking, widget.region.any()) == (0, "layer3", (), False)
    seen = []
    widget.observe(lambda change: seen.append((change["new"], widget.region.sum())), "ranking")
    told(widget, [9, 10, 16, 17])
    sums = atlas.explanation.layers[0].concept_map.table[1:3, 2:4].sum((0, 1), dtype=np.float64)
    order = sorted(np.flatnonzero(sums), key=lambda concept: -abs(sums[concept]))
    assert widget.ranking == tuple((concept, pytest.approx(sums[concept])) for concept in order)
    assert seen == [(widget.ranking, 4)]
    assert np.argwhere(widget.region).tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    # the same cells of another layer, and of what is explained beside it, are another region
    told(widget, [9, 10, 16, 17], view=1, layer="layer4")
    other = atlas.explanation.beside[0].layers[1]
    assert (widget.view, widget.layer) == (1, other.layer) == (1, "layer4")
    assert widget.ranking == other.concept_map.ranking(widget.region)
    assert widget.ranking not in ((), seen[0][0])


@pytest.mark.usefixtures("anywidget")
def test_python_selects(atlas):
    widget = atlas.widget()
    region = np.zeros((7, 7), dtype=bool)
    region[6, 5:] = True
    widget.select(region, layer="layer4", view=2)
    assert widget.selection == {"view": 2, "layer": "layer4", "cells": [47, 48]}
    assert widget.ranking == atlas.explanation.beside[1].layers[1].concept_map.ranking(region)
    widget.select(~region)
    assert (widget.layer, widget.view, int(widget.region.sum())) == ("layer4", 2, 47)


@pytest.mark.usefixtures("anywidget")
def test_cells_are_those_of_the_map_where_the_page_shows_them_elsewhere():
    # low frequencies stand at the bottom of the page and in the first row of the map
    medium = Medium("spectrogram", (Axis("frequency", "Hz", 10), Axis("time", "s", 0.1)))
    explanation = examples.explanation(patches=1)
    table = explanation.layers[0].concept_map.table
    widget = Atlas(explanation, SpectrogramPages(medium)).widget()
    row, column = next((int(row), int(column)) for row, column in np.argwhere(np.abs(table).sum(2)) if row != 3)
    shown = (6 - row) * 7 + column
    told(widget, [shown])
    assert np.argwhere(widget.region).tolist() == [[row, column]]
    assert widget.ranking[0][0] == np.abs(table[row, column]).argmax()
    widget.select(np.zeros((7, 7), dtype=bool))
    widget.select(np.arange(49).reshape(7, 7) == row * 7 + column)
    assert widget.selection["cells"] == [shown]


@pytest.mark.usefixtures("anywidget")
def test_mistakes_are_said(atlas):
    widget, region = atlas.widget(), np.zeros((7, 7), dtype=bool)
    with pytest.raises(InputError, match=r"^There is no layer 'layer5'; did you mean 'layer"):
        widget.select(region, layer="layer5")
    with pytest.raises(InputError, match=r"^There is no view 3; this atlas has 3, counted from 0\.$"):
        widget.select(region, view=3)
    with pytest.raises(InputError, match=r"cells of shape \(7, 7\); the region given has shape \(3, 7\)\.$"):
        widget.select(region[:3])


@pytest.mark.usefixtures("anywidget")
def test_a_layer_without_a_map_has_no_region():
    explanation = examples.explanation(patches=1)
    layers = tuple(dataclasses.replace(layer, concept_map=None) for layer in explanation.layers)
    widget = Atlas(dataclasses.replace(explanation, layers=layers)).widget()
    assert (widget.region, widget.ranking) == (None, ())
    with pytest.raises(InputError, match=r"^The layer 'layer3' has no map to select"):
        widget.select(np.zeros((7, 7), dtype=bool))


def test_without_anywidget_its_name_is_said(atlas, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    atlas_widget._widget_class.cache_clear()
    with pytest.raises(InputError, match=r"^The widget needs anywidget: pip install crp-atlas\[widget\] "):
        atlas.widget()
