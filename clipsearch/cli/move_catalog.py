"""clipsearch move-catalog."""

from __future__ import annotations

from dataclasses import asdict

import click

from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.paths import printable

_FILE = "sqlite"


@click.command("move-catalog")
@click.argument("destination", metavar="URL|sqlite")
@json_option
@library_option
def move_catalog(destination: str, as_json: bool, library: str | None) -> None:
    """Move the catalog to a PostgreSQL server, or back.

    \b
    clipsearch move-catalog postgresql+psycopg://USER@HOST/DATABASE
    clipsearch move-catalog sqlite

    `sqlite` moves it into the library's folder. The copy is compared row by row before it counts; then the catalog is
    deleted where it was. Searches go on meanwhile. After an interruption the library answers
    from the old place or the new one.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.cli.progress import make_build_progress
    from clipsearch.store.library import Library
    from clipsearch.store.moving import move_catalog as run

    _, place = read_settings(library=library)
    with make_build_progress() as progress:
        report = run(Library(place), None if destination == _FILE else destination, progress=progress)
    if as_json:
        write_bytes(present.to_json(asdict(report)))
    if report.before == report.after:
        note(f"The catalog is in {printable(report.after)} already.")
        return
    note(f"Moved the catalog to {printable(report.after)}: {report.rows:,} rows in {report.seconds:,.1f} s.")
    if report.left:
        note(report.left)
