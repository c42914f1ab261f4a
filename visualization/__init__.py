"""How an explanation is shown. Draws the values of `crp.explanation`; computes no relevance.

atlas.py     Atlas: one explanation, saved as picture, page or JSON, shown in notebooks
page.py      the page: one HTML file that opens offline (its parts lie in templates/), page_graph.py its graph
site.py      many predictions and the concepts of a library as pages that link to one another: index_page.py,
             concept_page.py; shared.py and sheets.py are what they share, files.py how it is written
figure.py    the matplotlib Figure of the whole atlas, composed of
graph.py     where the nodes of an attribution graph stand, and the graph in Graphviz's language
artists.py   one function a part, each drawing into the Axes it is given
profiles.py  the concepts of a class and the classes of a concept, drawn into given Axes
paper.py     the parts as figures at the width of a paper's column
renderers.py how an input is drawn: image, spectrogram, signal, volume
wording.py   the sentences and numbers that page and figure share
palette.py   one colour a concept, the same on cards and concept map
notebook.py  how values of `crp` that cannot draw show themselves
images.py    signed data as colour, pictures as bytes

>>> Atlas(explanation).save("atlas.html")                                      # doctest: +SKIP
"""

from crp.compat import handed_on
from crp.visualization.atlas import Atlas, atlas

__all__ = ["Atlas", "FeatureVisualization", "atlas"]

# zennit-crp's mining and reference samples
__getattr__ = handed_on(__name__, {"FeatureVisualization": "crp.legacy.visualization"})
