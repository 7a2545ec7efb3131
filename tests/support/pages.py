"""The code that pages of the manual show."""

from __future__ import annotations

import re

from tests.support.paths import ROOT


def python_blocks(page: str, heading: str) -> list[str]:
    """Return the blocks of Python of one part of a page of docs/, by its heading of the second level."""
    parts = re.split(r"^## ", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)
    (part,) = (each for each in parts if each.startswith(f"{heading}\n"))
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)
