"""The reports of an evaluation and of a correction: one HTML file each, and the curves as a figure.

curves.py       the deletion and insertion curves of a layer
report_page.py  the file of an evaluation
fix_page.py     the file of a correction
"""

from crp.visualization.report.report_page import evaluation_report

__all__ = ["evaluation_report"]
