"""The method of the engine that takes out what is in: items and vectors, for other programs and other libraries."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.filtering import Filter
from clipsearch.query.validation import read_filter
from clipsearch.store.library import Library

if TYPE_CHECKING:
    from indexer.exporting import ExportReport


class EngineExports:
    """What the engine writes of its library to files."""

    library: Library

    def export(
        self,
        folder: str | os.PathLike[str],
        *,
        format: str = "jsonl",
        filters: Filter | None = None,
        overwrite: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> ExportReport:
        """Write items with their vectors and all that is known of them to a new folder, as `clipsearch export` does.

        One state of the library is written, while others may write to it. Memory stays flat.

        Args:
            folder: Where to; it appears when all of it is there.
            format: Of the tables: `jsonl`, `csv`, or `parquet`, which needs pyarrow. Vectors are always .npy files.
            filters: Which items; None for all.
            overwrite: Replace an export of that name.
            progress: Called with how many items and vectors are done, and of how many.

        Returns:
            What was written.

        Raises:
            InvalidInputError: An argument cannot be used, or the folder is there.
            LibraryNotFoundError: The library is empty.
            StoreCorruptError: The library is damaged.
            ClipSearchError: The disk refuses; nothing is left of the export.

        Example:
            >>> engine.export("beach", format="csv", filters=clipsearch.Filter(tags=["beach"]))
        """
        from indexer.exporting import export_library
        from indexer.report import reporting

        reports = reporting(progress)
        wanted = None if filters is None else read_filter(filters)
        return export_library(
            self.library, Path(folder), table=format, filters=wanted, overwrite=overwrite, progress=reports
        )
