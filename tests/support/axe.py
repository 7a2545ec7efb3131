"""Accessibility of a page, by axe-core."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

_RUN = """(tags) => axe.run(document, { runOnly: tags }).then((found) => found.violations.map((each) =>
  `${each.id}: ${each.help}: ${each.nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`))"""


def faults_of(page: Any) -> list[str]:
    """Return what axe-core finds wrong with a page as it is now."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_RUN, RULES)
    return found
