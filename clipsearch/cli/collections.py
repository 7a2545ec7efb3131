"""clipsearch collections."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

import click

from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes


@click.command()
@json_option
@library_option
def collections(as_json: bool, library: str | None) -> None:
    """List the collections of the library, with the number of files in each.

    \b
    clipsearch collections
    clipsearch find --collection Summer
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.paths import printable
    from clipsearch.store.collections import list_all
    from clipsearch.store.library import Library

    _, folder = read_settings(library=library)
    with closing(Library(folder)) as opened, opened.query() as connection:
        found = list_all(connection)
    if as_json:
        listed = [asdict(each) for each in found]
        write_bytes(present.to_json({"library": str(folder), "collections": listed}))
        return
    if not found:
        note("The library has no collections. Make one: clipsearch collect NAME FILE...")
    rows = [f"{each.count:>9,}  {printable(each.name)}" for each in found]
    lines = [f"{'files':>9}  collection", *rows] if rows else []
    write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace"))
