"""clipsearch verify."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipsearch.cli.options import json_option, library_option, read_settings
from clipsearch.errors import InvalidInputError, StoreCorruptError

if TYPE_CHECKING:
    from clipsearch.store.findings import Finding
    from clipsearch.store.health import Stage
    from clipsearch.store.verification import Advance


@click.command()
@click.option("--quick", is_flag=True, help="Check sizes, the catalog and a sample of the vectors; this takes seconds.")
@click.option("--full", is_flag=True, help="Check every committed byte.  [default]")
@json_option
@library_option
@click.pass_context
def verify(context: click.Context, quick: bool, full: bool, as_json: bool, library: str | None) -> None:
    """Compare the library with its checksums, without changing anything.

    \b
    clipsearch verify
    clipsearch verify --quick

    It checks every vector, every row of the catalog, the full-text index and the search index. If something is
    damaged, the exit code is 5; `clipsearch repair` repairs it from your files.
    """  # noqa: D301 - click wants the character itself
    from clipsearch.cli.findings import report
    from clipsearch.cli.progress import make_build_progress

    if quick and full:
        raise InvalidInputError("Only one of --quick and --full can be used.")
    _, folder = read_settings(library=library)
    with make_build_progress() as progress:

        def stage(name: str, total: int) -> Advance:
            progress.stage(name, total)
            return progress.advance

        findings = list(_examine(folder, quick, stage))
    report(context, folder, findings, as_json)


def _examine(folder: Path, quick: bool, stage: Stage) -> Iterator[Finding]:
    from clipsearch.store import health
    from clipsearch.store.findings import BUILD, Finding, Severity
    from clipsearch.store.library import Library
    from clipsearch.store.refusals import REPAIR

    try:
        library = Library(folder)
    except StoreCorruptError as error:
        yield Finding("catalog", Severity.PROBLEM, str(error), REPAIR)
        return
    try:
        yield from health.examine(library, BUILD, quick=quick, stage=stage)
    finally:
        library.close()
