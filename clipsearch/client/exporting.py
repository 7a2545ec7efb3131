"""An export as a request: a stream that goes to files here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.client.calls import Call, Steps
from clipsearch.client.filters import to_form
from clipsearch.client.problems import error_of_problem
from clipsearch.filtering import Filter

if TYPE_CHECKING:
    from indexer.exporting import ExportReport
    from indexer.report import Progress


def export(
    folder: str | os.PathLike[str], table: str, filters: Filter | None, overwrite: bool, progress: Progress
) -> Steps[ExportReport]:
    """Write an export of the library of the server to a folder here."""
    from indexer.export_receiving import ExportReceiver

    asked = {"filters": to_form(filters)}
    with ExportReceiver(Path(folder), table, overwrite, progress, error_of_problem) as receiver:
        yield Call("POST", "/v1/export", bytes, asked, is_json=False, into=receiver.add)
        return receiver.finish()
