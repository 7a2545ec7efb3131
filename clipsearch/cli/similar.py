"""clipsearch similar."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from clipsearch.cli.filters import FilteringCommand, filter_options, note_unknown_paths
from clipsearch.cli.options import (
    collapse_option,
    crop_option,
    current_folder,
    cutoff_options,
    fail_option,
    format_option,
    library_option,
    match_options,
    order_options,
    read_settings,
    read_shape,
    search_options,
    shape_options,
)
from clipsearch.cli.query import check_template, print_answer, put_out
from clipsearch.cli.remote import refuse_local, shard_options
from clipsearch.cli.requests import SearchRequest, answer
from clipsearch.cli.showing import Showing, show_options, written

if TYPE_CHECKING:
    from clipsearch.client.client import Client
    from clipsearch.query.joint.engine import JointEngine
    from clipsearch.query.options import SearchOptions


@click.command(cls=FilteringCommand)
@click.argument("item", metavar="ID|PATH|URL")
@crop_option
@match_options
@collapse_option
@cutoff_options
@order_options
@filter_options
@format_option
@shape_options
@fail_option
@show_options
@library_option
@shard_options
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
@search_options
def similar(
    item: str,
    options: SearchOptions,
    group: str | None,
    as_json: bool,
    paths: bool,
    print0: bool,
    template: str | None,
    fail_if_none: bool,
    library: str | None,
    server: Client | JointEngine | None,
    offline: bool | None,
    showing: Showing,
) -> int:
    """Find what is most similar to an item of the library, or to any other picture.

    \b
    clipsearch similar photos/cat.jpg
    clipsearch similar 17 -k 5
    clipsearch similar photos/cat.jpg --crop 0.5,0.5,0.5,0.5

    A whole number is the id of an item, as --json shows it; anything else is a path or a URL. An item of the library
    needs no encoder, because its vector is stored. The item itself is left out.
    """  # noqa: D301 - click wants the character itself
    shape = read_shape(as_json, paths, print0, template)
    showing.check()
    check_template(template)
    asked = SearchRequest(
        options=replace(options, exclude_self=True), shape=shape, folder=current_folder(), shown=bool(showing),
        template=template, group=group,
    )  # fmt: skip
    is_part = options.crop is not None  # of a picture file: the vector of an item is of all of it
    number = None if is_part else re.fullmatch(r"(?:id:)?([0-9]{1,18})", item)
    if server is not None:
        refuse_local(written(showing))
        there = int(number[1]) if number else None if is_part else _item_there(server, item)
        given = answer(server, _by(asked, item, there), is_here=False)
        print_answer(given, shape)
    else:
        settings, folder = read_settings(library=library, offline=offline)
        from clipsearch.query.opening import open_library
        from clipsearch.store.lookup import item_at

        engine = open_library(folder, settings)
        found = int(number[1]) if number else None if is_part else item_at(engine.library, item)
        given = answer(engine, _by(asked, item, found))
        put_out(given, shape, showing, settings, folder)
    note_unknown_paths(server, library)
    return given.exit_code(fail_if_none)


def _by(asked: SearchRequest, item: str, number: int | None) -> SearchRequest:
    """Ask for what is like an item of the library, or where there is no such item, like a picture."""
    return replace(asked, image=item) if number is None else replace(asked, query=f"id:{number}")


def _item_there(server: Client | JointEngine, item: str) -> int | None:
    """Return the id of the item of a server that a key or a path names."""
    known = server.get(item) or server.get(os.path.abspath(item))
    return None if known is None else known.id
