"""clipsearch tags."""

from __future__ import annotations

from contextlib import closing

import click

from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes


@click.command()
@json_option
@library_option
def tags(as_json: bool, library: str | None) -> None:
    """List the tags of the library, most frequent first, with the number of files.

    \b
    clipsearch tags
    clipsearch find --tag cat
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.paths import printable
    from clipsearch.store.library import Library
    from clipsearch.store.tags import count_tags

    _, folder = read_settings(library=library)
    with closing(Library(folder)) as opened, opened.query() as connection:
        found = count_tags(connection)
    if as_json:
        listed = [{"tag": tag, "count": count} for tag, count in found]
        write_bytes(present.to_json({"library": str(folder), "tags": listed}))
        return
    if not found:
        note("The library has no tags. Make some: clipsearch label --labels cat,dog,bird --save")
    lines = [f"{'files':>9}  tag", *(f"{count:>9,}  {printable(tag)}" for tag, count in found)] if found else []
    write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace"))
