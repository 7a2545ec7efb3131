"""clipsearch query."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipsearch.cli.daemon.client import ask_daemon
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
    note,
    order_options,
    read_settings,
    read_shape,
    search_options,
    shape_options,
    write_shaped,
)
from clipsearch.cli.remote import refuse_local, shard_options
from clipsearch.cli.requests import Answer, SearchRequest, answer
from clipsearch.cli.showing import Showing, show, show_options, written
from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.query.options import SearchOptions
from clipsearch.query.parser import QuerySyntaxError, parse_arguments, parse_groups
from clipsearch.query.terms import FUSIONS, Indexed, Picture, Query, Text, Weighted
from clipsearch.query.understanding.gate import may_mean_more

if TYPE_CHECKING:
    from clipsearch.client.client import Client
    from clipsearch.query.joint.engine import JointEngine


@click.command(cls=FilteringCommand)
@click.argument("words", nargs=-1)
@click.option("--image", metavar="FILE|URL", help="Search by this picture instead of words.")
@crop_option
@click.option("--like", type=click.IntRange(min=1), multiple=True, metavar="ID", help="More like this item.")
@click.option("--unlike", type=click.IntRange(min=1), multiple=True, metavar="ID", help="Less like this item.")
@click.option(
    "--fusion", type=click.Choice(FUSIONS), default="auto", show_default=True, help="How several terms are combined."
)
@match_options
@click.option(
    "--words/--no-words",
    "hybrid",
    default=True,
    show_default=True,
    help="Also match the words of captions and texts, or search by meaning alone.",
)
@click.option(
    "--plain", is_flag=True, help="Search for the words as they stand: lift no filter out, take nothing away."
)
@collapse_option
@cutoff_options
@order_options
@click.option("--exclude-self", is_flag=True, help="Leave out the file that --image names.")
@click.option(
    "--suggest/--no-suggest",
    "suggesting",
    default=None,
    help="Without a confident match, say what else finds something.  [default: in a table]",
)
@click.option("--saved", metavar="NAME", help="Run a search that `clipsearch save` keeps.")
@click.option("--new", is_flag=True, help="Of a saved search, only what is new since the last --new.")
@filter_options
@format_option
@shape_options
@fail_option
@show_options
@library_option
@shard_options
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
@click.option("--no-cache", is_flag=True, help="Neither store nor reuse the vector of this text.")
@search_options
def query(
    words: tuple[str, ...], image: str | None, like: tuple[int, ...], unlike: tuple[int, ...], suggesting: bool | None,
    saved: str | None, new: bool, plain: bool, options: SearchOptions, group: str | None, as_json: bool, paths: bool,
    print0: bool, template: str | None, fail_if_none: bool, library: str | None, server: Client | JointEngine | None,
    offline: bool | None, no_cache: bool, showing: Showing,
) -> int:  # fmt: skip
    """Find pictures and texts that match words or a picture.

    \b
    clipsearch query "a cat on a sofa"
    clipsearch query horse + stripes
    clipsearch query ./cat.jpg + "2:golden retriever" - fence
    clipsearch query --image cat.jpg --exclude-self -k 5
    clipsearch query "a beach" --on "last summer" --not --in ./photos/old
    clipsearch query "beach in Spain, July 2023, with Anna"
    clipsearch query -0 "a red car" | xargs -0 ls -l
    find . -newer x | clipsearch query "a red car" --paths-from -
    clipsearch query --saved beaches --new
    clipsearch query --server https://photos.example.org "a cat"
    clipsearch query --shards ./photos/.clipsearch --shards ./more/.clipsearch "a cat"

    Put + or - between several terms. A term is words, the path or URL of a picture, or id:N for an item of the
    library. A number and a colon before a term is its weight: 2:cat counts twice. With parentheses or quotes, and,
    or and not combine terms, and a filter such as tag:beach is one: "(dog or cat) and not tag:indoor". Dates, places,
    people and cameras in plain words become filters where nothing else can be meant; --plain, or text: before the
    words, leaves them there.
    """  # noqa: D301 - click wants the character itself
    shape = read_shape(as_json, paths, print0, template)
    check_template(template)
    base = SearchRequest(
        options=options, shape=shape, folder=current_folder(), shown=bool(showing), template=template, group=group
    )

    if saved is not None or new:
        from clipsearch.cli.saved import run_saved

        settings, folder = read_settings(library=library, offline=offline, query_cache=False if no_cache else None)
        return run_saved(saved, new, base, showing, settings, folder, server).exit_code(fail_if_none)
    if bool(words or like or unlike) == (image is not None):
        raise InvalidInputError('Say what to look for, in words or with --image: clipsearch query "a cat on a sofa"')
    showing.check()
    text, image, composed = read_query(words, image, like, unlike)
    if shape == "table" if suggesting is None else suggesting:
        options = replace(options, suggest=True)
    if not plain and says_more(words, text):
        options = replace(options, understand=True)
    terms = None if composed is None else str(composed)
    asked = replace(base, text=text, image=image, query=terms, options=options)
    if server is not None:
        given = _ask_server(server, asked, showing)
    else:
        settings, folder = read_settings(library=library, offline=offline, query_cache=False if no_cache else None)
        given = _ask_library(asked, composed, showing, settings, folder)
    note_unknown_paths(server, library)
    return given.exit_code(fail_if_none)


def _ask_server(server: Client | JointEngine, asked: SearchRequest, showing: Showing) -> Answer:
    refuse_local(written(showing))
    given = answer(server, asked, is_here=False)
    print_answer(given, asked.shape)
    return given


def _ask_library(
    asked: SearchRequest, composed: Query | None, showing: Showing, settings: Settings, folder: Path
) -> Answer:
    # the daemon is in another folder, and cannot tell whether it would see the same pictures
    here = composed is not None and any(isinstance(term, Picture) for term in composed.leaves())
    given = (None if here else ask_daemon(asked, folder, settings)) or _answer_here(asked, folder, settings)
    put_out(given, asked.shape, showing, settings, folder)
    return given


def check_template(template: str | None) -> None:
    """Raise InvalidInputError for a template that cannot be used, before any work is done for it."""
    if template is not None:
        from clipsearch.cli.templates import HIT_FIELDS, read_template

        read_template(template, HIT_FIELDS)


def put_out(given: Answer, shape: str, showing: Showing, settings: Settings, library: Path) -> None:
    """Write an answer to stdout and its remarks to stderr, and show the hits in the ways that were asked for."""
    print_answer(given, shape)
    if given.payload is not None:
        show(given.payload, showing, settings, library)


def print_answer(given: Answer, shape: str) -> None:
    """Write an answer to stdout, and its remarks to stderr before it."""
    for remark in given.notes:
        note(remark)
    write_shaped(given.out, shape)


def says_more(words: tuple[str, ...], text: str | None) -> bool:
    """Tell whether the words of a query may say more than what is seen, as far as that takes no time."""
    return text is not None and not words[0].startswith("text:") and may_mean_more(text)


def read_query(
    words: tuple[str, ...], image: str | None, like: tuple[int, ...], unlike: tuple[int, ...]
) -> tuple[str | None, str | None, Query | None]:
    """Tell what is asked for: a text, a picture, or a query of several terms or an item."""
    if image is not None:
        return None, image, None
    grouped = parse_groups(" ".join(words))
    parts: list[Weighted] = [*(grouped or ())]
    if words and not grouped:
        try:
            parts += parse_arguments(words)
        except QuerySyntaxError:
            # a text may look like a term that is not one, such as 0:15
            if {"+", "-"} & {*words} or words[0].startswith(("id:", "image:")):
                raise
            return " ".join(words), None, None
    parts += [Weighted(1.0, Indexed(number)) for number in like] + [Weighted(-1.0, Indexed(n)) for n in unlike]
    if len(parts) == 1 and parts[0].weight > 0 and not grouped:
        if isinstance(parts[0].term, Text):
            # what looks like a weight may be a time of day
            return parts[0].term.text if words[0].startswith("text:") else " ".join(words), None, None
        if isinstance(parts[0].term, Picture):
            return None, os.path.expanduser(parts[0].term.source), None
    return None, None, Query(tuple(parts))


def _answer_here(asked: SearchRequest, folder: Path, settings: Settings) -> Answer:
    """Answer in this process, and embed the query beside."""
    from clipsearch.cli.cold_start import open_for_one_query

    image = None if asked.options.crop is not None else asked.image
    text = asked.text
    if text is not None and asked.options.understand:
        from datetime import datetime

        from clipsearch.query.understanding.understand import likely_words

        text = likely_words(text, datetime.now())
    return answer(open_for_one_query(folder, settings, text=text, image=image), asked)
