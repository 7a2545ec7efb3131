"""clipsearch query."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from clipsearch.cli.answering import Answer, Asked, answer
from clipsearch.cli.asking import ask_daemon
from clipsearch.cli.options import collapse_option, json_option, library_option, note, read_settings, write_bytes
from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.query.language import (
    FUSIONS,
    Indexed,
    Picture,
    Query,
    QuerySyntaxError,
    Text,
    Weighted,
    parse_arguments,
)


@click.command()
@click.argument("words", nargs=-1)
@click.option("--image", metavar="FILE", help="Search by this picture instead of words.")
@click.option("--like", type=click.IntRange(min=1), multiple=True, metavar="ID", help="More like this item.")
@click.option("--unlike", type=click.IntRange(min=1), multiple=True, metavar="ID", help="Less like this item.")
@click.option("--fusion", type=click.Choice(FUSIONS), default="auto", help="How several terms are fused.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(min=1), help="How many matches.")
@click.option("--modality", type=click.Choice(["image", "text", "any"]), default="any", show_default=True)
@collapse_option
@click.option("--exclude-self", is_flag=True, help="Leave the file that --image names out.")
@json_option
@click.option("--paths", is_flag=True, help="Print paths only, one a line.")
@click.option("-0", "--print0", is_flag=True, help="Print paths only, each ended by NUL.")
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never ask a model hub.")
@click.option("--no-cache", is_flag=True, help="Neither keep nor use the vector of this text.")
def query(
    words: tuple[str, ...],
    image: str | None,
    like: tuple[int, ...],
    unlike: tuple[int, ...],
    fusion: str,
    k: int,
    modality: str,
    collapse: bool,
    exclude_self: bool,
    as_json: bool,
    paths: bool,
    print0: bool,
    library: str | None,
    offline: bool | None,
    no_cache: bool,
) -> None:
    """Find pictures and texts that match WORDS, or a picture.

    Several terms are set apart by + and -. A term may be words, the path of a picture, or id:N, an item of the
    library; 2: before it doubles its weight.

    \b
    clipsearch query "a cat on a sofa"
    clipsearch query horse + stripes
    clipsearch query ./cat.jpg + "2:golden retriever" - fence
    clipsearch query --image cat.jpg --exclude-self -k 5
    clipsearch query -0 "a red car" | xargs -0 ls -l
    """  # noqa: D301 - click wants the character itself
    shape = shape_of(as_json, paths, print0)
    if bool(words or like or unlike) == (image is not None):
        raise InvalidInputError('Say what to look for, in words or with --image: clipsearch query "a cat on a sofa"')
    text, image, composed = _read(words, image, like, unlike)
    settings, folder = read_settings(library=library, offline=offline, query_cache=False if no_cache else None)
    written = None if composed is None else str(composed)
    asked = Asked(text, image, written, fusion, k, modality, exclude_self, shape, here(), collapse)
    # the daemon is in another folder, and cannot tell whether it would see the same pictures
    pictures = composed is not None and any(isinstance(part.term, Picture) for part in composed)
    given = (None if pictures else ask_daemon(asked, folder, settings)) or _answer_here(asked, folder, settings)
    write_answer(given, shape)


def _read(
    words: tuple[str, ...], image: str | None, like: tuple[int, ...], unlike: tuple[int, ...]
) -> tuple[str | None, str | None, Query | None]:
    """Tell what is asked for: a text, a picture, or a query of several terms or an item."""
    if image is not None:
        return None, image, None
    parts: list[Weighted] = []
    if words:
        try:
            parts += parse_arguments(words)
        except QuerySyntaxError:
            # a text may look like a term that is not one, such as 0:15
            if {"+", "-"} & {*words} or words[0].startswith(("id:", "image:")):
                raise
            return " ".join(words), None, None
    parts += [Weighted(1.0, Indexed(number)) for number in like] + [Weighted(-1.0, Indexed(n)) for n in unlike]
    if len(parts) == 1 and parts[0].weight > 0:
        if isinstance(parts[0].term, Text):
            return " ".join(words), None, None
        if isinstance(parts[0].term, Picture):
            return None, parts[0].term.source, None
    return None, None, Query(tuple(parts))


def _answer_here(asked: Asked, folder: Path, settings: Settings) -> Answer:
    """Answer in this process, which embeds the query while the store is loaded."""
    from clipsearch.query.embedding import start_embedding

    embedder = start_embedding(folder, settings, text=asked.text, image=asked.image)
    from clipsearch.query.engine import open_library

    return answer(open_library(folder, settings, embedder), asked)


def shape_of(as_json: bool, paths: bool, print0: bool) -> str:
    """Return the shape that these flags ask for, as `Asked` has it. Raises InvalidInputError for several."""
    if as_json + paths + print0 > 1:
        raise InvalidInputError("Only one of --json, --paths and --print0 can be used.")
    return "json" if as_json else "paths" if paths else "print0" if print0 else "table"


def write_answer(given: Answer, shape: str) -> None:
    """Write an answer to stdout, and its remarks to stderr."""
    for remark in given.notes:
        note(remark)
    write_bytes(_for_terminal(given.out) if shape == "paths" else given.out)


def here() -> str:
    """Return the current folder, below which paths are shown short."""
    try:
        return os.getcwd()
    except OSError:  # it is gone, and nothing lies below it
        return os.curdir


def _for_terminal(data: bytes) -> bytes:
    """Escape paths that could steer a terminal, when one is what reads them; a pipe gets the raw bytes."""
    if not sys.stdout.isatty():
        return data
    from clipsearch.paths import printable

    lines = os.fsdecode(data).split("\n")
    return "\n".join(printable(line) for line in lines).encode("utf-8", "backslashreplace")
