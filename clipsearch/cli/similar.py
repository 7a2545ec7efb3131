"""clipsearch similar."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from clipsearch.cli.filters import FilteringCommand, filter_options
from clipsearch.cli.options import (
    collapse_option,
    current_folder,
    cutoff_options,
    library_option,
    match_options,
    read_settings,
    read_shape,
    search_options,
    shape_options,
)
from clipsearch.cli.query import put_out
from clipsearch.cli.requests import SearchRequest, answer
from clipsearch.cli.showing import Showing, show_options

if TYPE_CHECKING:
    from clipsearch.query.options import SearchOptions


@click.command(cls=FilteringCommand)
@click.argument("item", metavar="ID|PATH|URL")
@match_options
@collapse_option
@cutoff_options
@filter_options
@shape_options
@show_options
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
@search_options
def similar(
    item: str,
    options: SearchOptions,
    as_json: bool,
    paths: bool,
    print0: bool,
    library: str | None,
    offline: bool | None,
    showing: Showing,
) -> None:
    """Find what is most similar to an item of the library, or to any other picture.

    \b
    clipsearch similar photos/cat.jpg
    clipsearch similar 17 -k 5

    A whole number is the id of an item, as --json shows it; anything else is a path or a URL. An item of the library
    needs no encoder, because its vector is stored. The item itself is left out.
    """  # noqa: D301 - click wants the character itself
    shape = read_shape(as_json, paths, print0)
    showing.check()
    settings, folder = read_settings(library=library, offline=offline)
    from clipsearch.query.opening import open_library
    from clipsearch.store.lookup import item_at

    engine = open_library(folder, settings)
    number = re.fullmatch(r"(?:id:)?([0-9]{1,18})", item)
    found = int(number[1]) if number else item_at(engine.library, item)
    image, query = (item, None) if found is None else (None, f"id:{found}")
    options = replace(options, exclude_self=True)
    asked = SearchRequest(
        image=image, query=query, options=options, shape=shape, folder=current_folder(), shown=bool(showing)
    )
    put_out(answer(engine, asked), shape, showing, settings, folder)
