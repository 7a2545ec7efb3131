"""clipsearch export."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipsearch.cli.filters import FilteringCommand, filter_options, note_unknown_paths
from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.cli.remote import server_options

if TYPE_CHECKING:
    from clipsearch.client.client import Client
    from clipsearch.filtering import Filter
    from indexer.exporting import ExportReport
    from indexer.report import Progress

FORMATS = ("jsonl", "csv", "parquet")


@click.command(cls=FilteringCommand)
@click.argument("directory", metavar="DIR")
@click.option(
    "--format",
    "table",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="The format of the tables; vectors are .npy files. Parquet needs the extra `parquet`.",
)
@click.option("--force", is_flag=True, help="Replace an export that is there.")
@filter_options
@json_option
@library_option
@server_options
def export(
    directory: str,
    table: str,
    force: bool,
    filters: Filter | None,
    as_json: bool,
    library: str | None,
    server: Client | None,
) -> None:
    """Write items, with their vectors and all that is known of them, to a new folder.

    \b
    clipsearch export ./out
    clipsearch export ./beach --format csv --tag beach --after 2024
    clipsearch import-embeddings ./out --library ./copy
    clipsearch export ./out --server https://photos.example.org

    The folder holds items and vectors as tables, the vectors themselves as image.npy and text.npy, and manifest.json.
    It appears when all of it is there. Others may write to the library meanwhile: one state of it is written.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.cli.progress import Words, make_progress

    with make_progress(Words("items and vectors", "Exporting", "to export")) as progress:
        if server is not None:
            from clipsearch.client.exporting import export as receive

            report = server.take(receive(directory, table, filters, force, progress))
        else:
            report = _export(library, directory, table, filters, force, progress)
    if as_json:
        write_bytes(present.to_json(asdict(report)))
    if report.kept:
        note(f"The library keeps pictures of {report.kept:,} of these records, which an export does not hold.")
    size = f"{report.bytes / 1e6:,.1f} MB"
    note(f"Done: {report.items:,} items, {report.vectors:,} vectors, {size} in {report.seconds:,.1f} s.")
    note_unknown_paths(server, library)


def _export(
    library: str | None, directory: str, table: str, filters: Filter | None, force: bool, progress: Progress
) -> ExportReport:
    from clipsearch.query.opening import open_library
    from indexer.exporting import export_library

    settings, folder = read_settings(library=library)
    with open_library(folder, settings) as engine:
        return export_library(
            engine.library, Path(directory), table=table, filters=filters, overwrite=force, progress=progress
        )
