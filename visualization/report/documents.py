"""Reports as HTML files that open offline, in the style of pages."""

from __future__ import annotations

from typing import Any

from crp.visualization.package_files import template_files
from crp.visualization.page.explanation_page import environment


def document(template: str, **values: Any) -> str:
    """Render the template of a report."""
    return environment().get_template(template).render(style=template_files()["style.css"].decode(), **values)
