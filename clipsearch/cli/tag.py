"""clipsearch tag."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from clipsearch.cli.options import library_option, note, read_settings
from clipsearch.errors import InvalidInputError

if TYPE_CHECKING:
    from clipsearch.store.library import Library


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--add", "added", multiple=True, metavar="NAME", help="A tag to add; may be repeated.")
@click.option("--remove", "removed", multiple=True, metavar="NAME", help="A tag to remove; may be repeated.")
@library_option
def tag(files: tuple[str, ...], added: tuple[str, ...], removed: tuple[str, ...], library: str | None) -> None:
    """Add tags to files of the library, and remove tags from them; the files themselves are not touched.

    \b
    clipsearch tag --add beach --add Crete sea.jpg bay.jpg
    clipsearch tag --remove snow sea.jpg
    clipsearch find --on 2024-07 -0 | xargs -0 clipsearch tag --add "last summer"

    FILES are files, or ids of records. Capitals make no difference. Tags that you add stay, whatever is indexed later.
    """  # noqa: D301 - click wants the character itself
    if not added and not removed:
        raise InvalidInputError("There is nothing to do. Name a tag: --add NAME or --remove NAME.")
    settings, folder = read_settings(library=library)
    from clipsearch.query.opening import open_library

    with open_library(folder, settings) as engine:
        count = engine.tag(find_files(engine.library, files), add=added, remove=removed)
    note(f"Files changed: {count:,}. See: clipsearch tags")


def find_files(library: Library, files: Iterable[str]) -> list[int]:
    """Return the ids of items by their paths or names. Raises InvalidInputError for one that is not in the library."""
    from clipsearch.store.lookup import item_at

    ids = []
    for file in files:
        found = item_at(library, file)
        if found is None:
            raise InvalidInputError(
                f"The library in {library.folder} has no file {file}. List what it holds: clipsearch find"
            )
        ids.append(found)
    return ids
