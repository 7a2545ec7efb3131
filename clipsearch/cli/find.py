"""clipsearch find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clipsearch.cli.filters import FilteringCommand, filter_options, note_unknown_paths
from clipsearch.cli.options import (
    SORTS,
    current_folder,
    format_option,
    group_option,
    library_option,
    note,
    read_settings,
    read_shape,
    shape_options,
    write_shaped,
)
from clipsearch.cli.remote import shard_options
from clipsearch.paths import printable

if TYPE_CHECKING:
    from clipsearch.client.client import Client
    from clipsearch.filtering import Filter
    from clipsearch.query.joint.engine import JointEngine
    from clipsearch.types import Listing

SHOWN = 100
"""So many stand in a table, unless more are asked for."""


@click.command(cls=FilteringCommand)
@filter_options
@click.option(
    "-k",
    "--limit",
    type=click.IntRange(min=1),
    help=f"The most files to list.  [default: {SHOWN} in a table, else all]",
)
@click.option("--sort", type=click.Choice(SORTS[1:]), default="taken", show_default=True, help="What to sort by.")
@group_option
@format_option
@shape_options
@click.option("--fail-if-none", is_flag=True, help="Exit with code 1 if there is no match.")
@library_option
@shard_options
def find(
    filters: Filter | None,
    limit: int | None,
    sort: str,
    group: str | None,
    as_json: bool,
    paths: bool,
    print0: bool,
    template: str | None,
    fail_if_none: bool,
    library: str | None,
    server: Client | JointEngine | None,
) -> int:
    """List the files that the filters allow, newest first.

    \b
    clipsearch find --after "last summer" --type image
    clipsearch find --in ./photos --orientation portrait --not --camera Canon
    clipsearch find --near 48.86,2.35,20 -0 | xargs -0 ls -l

    Files are sorted by the date that the camera wrote. A file without one is sorted by its own date, shown with a ~.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.cli.templates import ITEM_FIELDS, read_template
    from clipsearch.query.opening import open_library

    shape = read_shape(as_json, paths, print0, template)
    lines = None if template is None else read_template(template, ITEM_FIELDS)
    most = limit or (SHOWN if shape == "table" else None)
    if server is not None:
        found = server.find(filters, limit=most, sort=sort)
    else:
        settings, folder = read_settings(library=library)
        with open_library(folder, settings) as engine:
            found = engine.find(filters, limit=most, sort=sort)
    for warning in found.warnings:
        note(printable(warning))
    if shape == "table":
        _remark(found, "newest" if sort == "taken" else "first")
    if lines is not None:
        write_shaped(lines.write(found, "\0" if shape == "print0" else "\n"), shape)
    else:
        write_shaped(present.shape_listing(found, shape, current_folder(), group), shape)
    note_unknown_paths(server, library)
    return int(fail_if_none and not found.total)


def _remark(found: Listing, what: str) -> None:
    if not found.total:
        note("No match.")
    elif len(found) < found.total:
        note(f"The {what} {len(found):,} of {found.total:,}. More: -k N; all: --paths")
