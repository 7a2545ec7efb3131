"""clipsearch similar."""

from __future__ import annotations

import re

import click

from clipsearch.cli.answering import Asked, answer
from clipsearch.cli.options import collapse_option, json_option, library_option, read_settings
from clipsearch.cli.query import here, shape_of, write_answer


@click.command()
@click.argument("item", metavar="ID|PATH")
@click.option("-k", default=10, show_default=True, type=click.IntRange(min=1), help="How many matches.")
@click.option("--modality", type=click.Choice(["image", "text", "any"]), default="any", show_default=True)
@collapse_option
@json_option
@click.option("--paths", is_flag=True, help="Print paths only, one a line.")
@click.option("-0", "--print0", is_flag=True, help="Print paths only, each ended by NUL.")
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never ask a model hub.")
def similar(
    item: str,
    k: int,
    modality: str,
    collapse: bool,
    as_json: bool,
    paths: bool,
    print0: bool,
    library: str | None,
    offline: bool | None,
) -> None:
    """Find what is most like an item of the library, or like any picture; itself is left out.

    A whole number is the id of an item, as --json shows it; anything else is a path. What is in the library needs no
    encoder: its own vector is the query.

    \b
    clipsearch similar 17
    clipsearch similar photos/cat.jpg -k 5
    """  # noqa: D301 - click wants the character itself
    shape = shape_of(as_json, paths, print0)
    settings, folder = read_settings(library=library, offline=offline)
    from clipsearch.query.engine import open_library
    from clipsearch.store.lookup import item_at

    engine = open_library(folder, settings)
    number = re.fullmatch(r"(?:id:)?([0-9]{1,18})", item)
    found = int(number[1]) if number else item_at(engine.library, item)
    image, query = (item, None) if found is None else (None, f"id:{found}")
    asked = Asked(None, image, query, "auto", k, modality, True, shape, here(), collapse)
    write_answer(answer(engine, asked), shape)
