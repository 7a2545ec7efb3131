"""clipsearch collect."""

from __future__ import annotations

import click

from clipsearch.cli.options import library_option, note, read_settings
from clipsearch.cli.tag import find_files
from clipsearch.errors import InvalidInputError


@click.command()
@click.argument("name")
@click.argument("files", nargs=-1)
@click.option("--remove", is_flag=True, help="Take the files out of the collection.")
@click.option("--rename", "new", metavar="NEW", help="Give the collection another name.")
@click.option("--delete", is_flag=True, help="Delete the collection; its files stay in the library.")
@library_option
def collect(
    name: str, files: tuple[str, ...], remove: bool, new: str | None, delete: bool, library: str | None
) -> None:
    """Add files to a collection, a named set of files of the library, which is made if it is not there.

    \b
    clipsearch collect Summer sea.jpg bay.jpg
    clipsearch find --tag beach -0 | xargs -0 clipsearch collect Summer
    clipsearch collect Summer --rename "Summer 2024"

    FILES are files, or ids of records. The files themselves are not touched.
    """  # noqa: D301 - click wants the character itself
    if remove + delete + (new is not None) > 1:
        raise InvalidInputError("Only one of --remove, --rename and --delete can be used.")
    if (delete or new is not None) and files:
        raise InvalidInputError("--rename and --delete are about the collection as a whole. Leave out the files.")
    if remove and not files:
        raise InvalidInputError("--remove takes files out of the collection. Name some; --delete deletes it.")
    settings, folder = read_settings(library=library)
    from clipsearch.paths import printable
    from clipsearch.query.opening import open_library

    with open_library(folder, settings) as engine:
        if delete:
            engine.delete_collection(name)
            note(f"Collection deleted: {printable(name)}")
            return
        if new is not None:
            found = engine.rename_collection(name, new)
        else:
            ids = find_files(engine.library, files)
            found = engine.collect(name, remove=ids, create=False) if remove else engine.collect(name, ids)
    note(f"Collection {printable(found.name)}: {found.count:,} files. See: clipsearch collections")
