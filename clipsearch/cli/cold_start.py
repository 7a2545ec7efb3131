"""What a query in a fresh process does only to be fast. benchmarks/cold_query.py times such queries and justifies it.

Two things, which are in no other command: the garbage collector is off, and a fork of the process embeds the query
while the process itself loads the store.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.config import Settings

if TYPE_CHECKING:
    from clipsearch.query.engine import SearchEngine


def open_for_one_query(folder: Path, settings: Settings, *, text: str | None, image: str | None) -> SearchEngine:
    """Open the library in a folder for a process that asks one query and ends.

    text, image: the query, or None for one that cannot be embedded beforehand. Raises as `open_library` does.
    """
    gc.disable()  # this process ends soon: a tenth of its time would go into looking at modules that stay
    from clipsearch.query.prefetch import start_embedding

    embedder = start_embedding(folder, settings, text=text, image=image)
    from clipsearch.query.opening import open_library

    return open_library(folder, settings, embedder)
