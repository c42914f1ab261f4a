"""Figures: the whole atlas, each of its parts in given axes, and parts at the width of a paper's column.

overview.py       `atlas_figure`, the whole atlas; `save`
paper.py          parts at the width of a column: heatmap, concepts, concept map, overview
graph_figure.py   the same for an attribution graph
class_table.py    which classes use which concepts
profile_plots.py  the concepts of a class, or the classes of a concept, as bars
artists.py        draws one part of an explanation into given axes
panel.py          axes whose contents are placed in inches
renderers/        how each kind of input is drawn
"""
