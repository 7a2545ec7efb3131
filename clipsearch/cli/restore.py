"""clipsearch restore."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--replace", is_flag=True, help="Delete the present library instead of keeping it under another name.")
@json_option
@library_option
def restore(folder: str, replace: bool, as_json: bool, library: str | None) -> None:
    """Restore the library from the backup in DIR.

    \b
    clipsearch restore /mnt/disk/backup

    Every byte is compared with its checksum first. If the backup is damaged, nothing is changed and the exit code is 5.
    The present library, if there is one, is kept under another name.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.cli.progress import make_build_progress
    from clipsearch.store.restore import recorded_place
    from clipsearch.store.restore import restore as run

    settings, place = read_settings(library=library)
    origin = Path(os.path.abspath(os.path.expanduser(folder)))
    recorded = recorded_place(origin)
    if not settings.library and os.path.realpath(place) != os.path.realpath(recorded):
        raise InvalidInputError(
            f"The backup is of the library {recorded}, but the library used here is {place}. Say which one to restore: "
            "--library DIR"
        )
    with make_build_progress() as progress:
        report = run(origin, place, replace=replace, progress=progress)
    if as_json:
        write_bytes(present.to_json(asdict(report)))
    kept = f" The previous library is kept in {printable(report.kept)}." if report.kept else ""
    note(
        f"Restored to {printable(report.library)} as of {printable(report.made)}: {report.bytes:,} bytes in "
        f"{report.seconds:,.1f} s.{kept}"
    )
