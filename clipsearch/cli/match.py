"""clipsearch match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clipsearch.cli.filters import FilteringCommand, filter_options, note_unknown_paths
from clipsearch.cli.options import (
    crop_option,
    current_folder,
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
    from clipsearch.matches import Matches
    from clipsearch.query.joint.engine import JointEngine

_SHOWN_UNREAD = 3


@click.command(cls=FilteringCommand)
@click.argument("picture", metavar="FILE|URL")
@click.option("-k", default=5, show_default=True, type=click.IntRange(min=1), help="How many matches to show.")
@crop_option
@filter_options
@shape_options
@library_option
@shard_options
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
def match(
    picture: str,
    k: int,
    crop: str | None,
    filters: Filter | None,
    as_json: bool,
    paths: bool,
    print0: bool,
    library: str | None,
    server: Client | JointEngine | None,
    offline: bool | None,
) -> None:
    """Find the picture that a crop, a screenshot or an edited copy was made from.

    \b
    clipsearch match screenshot.png
    clipsearch match meme.jpg --crop 0,0.2,1,0.6
    clipsearch match crop.jpg --paths | head -1

    The pictures whose vectors are nearest are compared with it point by point. Crops, mirror images, filters, borders
    and overlays are recognised, and the table shows the region of the
    original. If the library does not have the original, there is no match.
    """  # noqa: D301 - click wants the character itself
    from clipsearch.present_matches import shape_matches
    from clipsearch.query.opening import open_library

    shape = read_shape(as_json, paths, print0)
    if server is not None:
        found = server.match(picture, k=k, crop=crop, filters=filters)
    else:
        settings, folder = read_settings(library=library, offline=offline)
        with open_library(folder, settings) as engine:
            found = engine.match(picture, k=k, crop=crop, filters=filters)
    for warning in found.warnings:
        note(printable(warning))
    if shape == "table":
        _remark(found)
    write_shaped(shape_matches(found, shape, current_folder()), shape)
    note_unknown_paths(server, library)


def _remark(found: Matches) -> None:
    if not len(found):
        note(f"No match. {found.compared:,} pictures were compared.")
    if found.unread:
        note(f"Not compared, because they cannot be read now: {len(found.unread):,} pictures. The most similar:")
        for each in found.unread[:_SHOWN_UNREAD]:
            note(f"  {each.score:.3f}  {printable(each.item.path)}: {printable(each.reason)}")
