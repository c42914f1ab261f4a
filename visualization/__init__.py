"""How an explanation is shown. Draws the values of `crp.explanations` and `crp.graphs`; computes no relevance.

atlases.py       Atlas: one explanation, saved as picture, page or JSON, shown in notebooks
page/            the page: one HTML file that opens offline
site/            many predictions and the concepts of a library as pages that link to one another
report/          the report of an evaluation
figures/         matplotlib: the atlas as one figure, its parts in given axes and at the width of a paper's column;
                 renderers/ draws the input: image, spectrogram, signal, volume
wording.py       the sentences and numbers that pages and figures share
colours.py       a colour for each concept, the same on cards and concept map
encoding.py      signed data as colour, pictures as bytes
sheets.py        many small patches as one picture
graph_layout.py  where the nodes of an attribution graph are drawn, and the graph as Graphviz DOT
page_files.py    writes files completely or not at all, and makes names that are safe in an address
package_files.py reads the templates, scripts and styles that are installed with the package
atlas_widget.py  the page in a notebook, which hands the selected region to Python
notebook.py      attribution graphs in notebooks

>>> Atlas(explanation).save("atlas.html")                                      # doctest: +SKIP
"""

from crp.compat import OLD_NAMES, old_names
from crp.visualization.atlases import Atlas, atlas

__all__ = ["Atlas", "atlas", *OLD_NAMES[__name__]]

__getattr__ = old_names(__name__)
