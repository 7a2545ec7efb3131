"""clipsearch query."""

from __future__ import annotations

import os
import sys

import click

from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.errors import InvalidInputError
from clipsearch.types import Results


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
) -> None:
    """Find pictures and texts that match WORDS, or a picture.

    \b
    clipsearch query "a cat on a sofa"
    clipsearch query --image cat.jpg --exclude-self -k 5
    clipsearch query -0 "a red car" | xargs -0 ls -l
    """  # noqa: D301 - click wants the character itself
    from clipsearch.query.engine import open_library

    if as_json + paths + print0 > 1:
        raise InvalidInputError("Only one of --json, --paths and --print0 can be used.")
    if bool(words) == (image is not None):
        raise InvalidInputError('Say what to look for, in words or with --image: clipsearch query "a cat on a sofa"')
    settings, folder = read_settings(library=library, offline=offline)
    engine = open_library(folder, settings)
    text = None if image is not None else " ".join(words)
    results = engine.search(text, image=image, k=k, modality=modality, exclude_self=exclude_self)
    for warning in results.warnings:
        note(warning)
    _print(results, as_json, paths, print0)


def _print(results: Results, as_json: bool, paths: bool, print0: bool) -> None:
    from clipsearch import present

    if as_json:
        write_bytes(present.to_json(present.to_payload(results)))
    elif print0:
        write_bytes(present.to_paths(results.hits, b"\0"))
    elif paths:
        write_bytes(_for_terminal(present.to_paths(results.hits, b"\n")))
    else:
        if not results.confident:
            note("No confident match. The nearest are:" if len(results) else "No match.")
        write_bytes(present.to_table(results, os.getcwd()).encode("utf-8", "backslashreplace"))


def _for_terminal(data: bytes) -> bytes:
    """Escape paths that could steer a terminal, when one is what reads them; a pipe gets the raw bytes."""
    if not sys.stdout.isatty():
        return data
    from clipsearch.paths import printable

    lines = os.fsdecode(data).split("\n")
    return "\n".join(printable(line) for line in lines).encode("utf-8", "backslashreplace")
