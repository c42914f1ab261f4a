"""The report of an evaluation: one HTML file, and its curves as a figure.

curves.py       the deletion and insertion curves of a layer
report_page.py  the file
"""

from crp.visualization.report.report_page import evaluation_report

__all__ = ["evaluation_report"]
