"""clipsearch query."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from clipsearch.cli.answering import Answer, Asked, answer
from clipsearch.cli.asking import ask_daemon
from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError


@click.command()
@click.argument("words", nargs=-1)
@click.option("--image", metavar="FILE", help="Search by this picture instead of words.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(min=1), help="How many matches.")
@click.option("--modality", type=click.Choice(["image", "text", "any"]), default="any", show_default=True)
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
    k: int,
    modality: str,
    exclude_self: bool,
    as_json: bool,
    paths: bool,
    print0: bool,
    library: str | None,
    offline: bool | None,
    no_cache: bool,
) -> None:
    """Find pictures and texts that match WORDS, or a picture.

    \b
    clipsearch query "a cat on a sofa"
    clipsearch query --image cat.jpg --exclude-self -k 5
    clipsearch query -0 "a red car" | xargs -0 ls -l
    """  # noqa: D301 - click wants the character itself
    if as_json + paths + print0 > 1:
        raise InvalidInputError("Only one of --json, --paths and --print0 can be used.")
    if bool(words) == (image is not None):
        raise InvalidInputError('Say what to look for, in words or with --image: clipsearch query "a cat on a sofa"')
    settings, folder = read_settings(library=library, offline=offline, query_cache=False if no_cache else None)
    shape = "json" if as_json else "paths" if paths else "print0" if print0 else "table"
    text = None if image is not None else " ".join(words)
    asked = Asked(text, image, k, modality, exclude_self, shape, _here())
    given = ask_daemon(asked, folder, settings) or _answer_here(asked, folder, settings)
    for remark in given.notes:
        note(remark)
    write_bytes(_for_terminal(given.out) if paths else given.out)


def _answer_here(asked: Asked, folder: Path, settings: Settings) -> Answer:
    """Answer in this process, which embeds the query while the store is loaded."""
    from clipsearch.query.embedding import start_embedding

    embedder = start_embedding(folder, settings, text=asked.text, image=asked.image)
    from clipsearch.query.engine import open_library

    return answer(open_library(folder, settings, embedder), asked)


def _here() -> str:
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
