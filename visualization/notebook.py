"""Attribution graphs in notebooks: `crp.graphs` itself does not draw."""

from __future__ import annotations

import base64
import html
import io

from crp.graphs import ConceptGraph
from crp.visualization import graph_wording, wording
from crp.visualization.figures import overview as figure
from crp.visualization.figures import paper

DOTS_PER_INCH = 110


def graph_html(graph: ConceptGraph) -> str:
    """Draw an attribution graph as a picture, with a description in words."""
    buffer = io.BytesIO()
    figure.save(paper.plot_graph(graph).figure, buffer, format="png", dpi=DOTS_PER_INCH)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    text = html.escape(wording.printable(graph_wording.graph(graph)))
    return (
        f'<figure style="margin:0"><img src="data:image/png;base64,{data}" alt="{text}" style="max-width:100%">'
        f"<figcaption><bdi>{text}</bdi></figcaption></figure>"
    )
