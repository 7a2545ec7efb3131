"""clipsearch backup."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from clipsearch.cli.options import count_files, json_option, library_option, note, read_settings, write_bytes
from clipsearch.paths import printable


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--with-index", is_flag=True, help="Also copy the approximate index, which could be built again instead.")
@json_option
@library_option
def backup(folder: str, with_index: bool, as_json: bool, library: str | None) -> None:
    """Back up the library into the folder DIR.

    \b
    clipsearch backup /mnt/disk/backup

    DIR is a new folder, or an earlier backup of this library; only new data is copied. A backup holds the catalog and
    the vectors, not your files. You can search and index during a backup. An interrupted backup leaves the previous
    one intact. If the library is damaged, nothing is written and the exit code is 5.

    To restore it: clipsearch restore DIR.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.cli.progress import make_build_progress
    from clipsearch.store.backup import back_up
    from clipsearch.store.library import Library

    _, place = read_settings(library=library)
    target = Path(os.path.abspath(os.path.expanduser(folder)))
    with make_build_progress() as progress:
        report = back_up(Library(place), target, with_index=with_index, progress=progress)
    if as_json:
        write_bytes(present.to_json(asdict(report)))
    note(
        f"Backed up into {printable(report.backup)}: {report.copied_bytes:,} bytes copied, {count_files(report.files)} "
        f"of {report.bytes:,} bytes in all, in {report.seconds:,.1f} s."
    )
