"""The reports of an evaluation, of suspects and of a correction: one HTML file each, and the curves as a figure.

curves.py           the deletion and insertion curves of a layer
report_page.py      the file of an evaluation
fix_page.py         the file of a correction
prune_page.py       the file of a pruned model
changes.py          classes and samples before and after, for both
suspects_page.py    the file of suspicious concepts
concept_patches.py  patches of a concept, on the pages of corrections and of suspects
"""

from crp.visualization.report.report_page import evaluation_report

__all__ = ["evaluation_report"]
