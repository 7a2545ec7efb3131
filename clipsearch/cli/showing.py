"""The options of commands that list hits, by which these are looked at, and what is done for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clipsearch.cli.options import count_files, note
from clipsearch.config import Settings
from clipsearch.durable import check_replaceable, replace_file
from clipsearch.errors import ClipSearchError, InvalidInputError
from clipsearch.paths import printable

if TYPE_CHECKING:
    from clipsearch.gallery.folder import Filled
    from clipsearch.gallery.tiles import Tile

F = TypeVar("F", bound=Callable[..., Any])

OPENED = 3
"""So many files are opened where neither a sheet nor a page was made."""

_PLAYERS = (("mpv", "--start={:.3f}"), ("vlc", "--start-time={:.3f}"))
"""Players that begin at a time, and the option by which they do."""

_SHEETS, _PAGES = (".png", ".jpg", ".jpeg"), (".html", ".htm")
_OPTIONS = (
    click.option("--preview", is_flag=True, help="Also draw the matches in the terminal."),
    click.option("--sheet", metavar="FILE", help="Write a contact sheet of the matches, as .png or .jpg."),
    click.option("--html", metavar="FILE", help="Write a web page of the matches, in one file."),
    click.option("--open", "open_it", is_flag=True, help="Open the sheet or page, or else the first matches."),
    click.option("--copy-to", metavar="DIR", help="Copy the matching files to a folder, named by rank."),
    click.option("--link-to", metavar="DIR", help="Make symbolic links to the matching files, named by rank."),
)

_WRITTEN = {
    "preview": "--preview", "sheet": "--sheet", "html": "--html", "open_it": "--open", "copy_to": "--copy-to",
    "link_to": "--link-to",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Showing:
    """What is to be done with hits beside listing them."""

    preview: bool = False
    sheet: str | None = None
    html: str | None = None
    open_it: bool = False
    copy_to: str | None = None
    link_to: str | None = None

    def __bool__(self) -> bool:
        return self != Showing()

    def check(self) -> None:
        """Raise InvalidInputError for what cannot be done, before any work is done for it."""
        if self.preview:
            from clipsearch.cli.terminal import find_terminal

            find_terminal()
        for name, option, endings in ((self.sheet, "--sheet", _SHEETS), (self.html, "--html", _PAGES)):
            if name is not None:
                if not name.lower().endswith(endings):
                    raise InvalidInputError(
                        f"{option} {name} does not end in {' or '.join(endings)}. Name such a file."
                    )
                check_replaceable(Path(name))
        for name in (self.copy_to, self.link_to):
            if name == "" or (name is not None and os.path.lexists(name) and not os.path.isdir(name)):
                raise InvalidInputError(f"{name!r} is not a folder. Name a folder; it is made if it does not exist.")
        if self.open_it:
            _opener()


def show_options(command: F) -> F:
    """Add the options; the command gets them as one argument, `showing`."""

    @wraps(command)
    def collected(**given: object) -> object:
        showing = Showing(**{name: given.pop(name) for name in Showing.__dataclass_fields__})  # type: ignore[arg-type]
        return command(**given, showing=showing)

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected  # type: ignore[return-value]


def written(showing: Showing) -> dict[str, bool]:
    """Tell of each option whether it is given."""
    return {str(option): bool(getattr(showing, name)) for name, option in _WRITTEN.items()}


def show(payload: Mapping[str, Any], showing: Showing, settings: Settings, library: Path) -> None:
    """Do with an answer what was asked for. Nothing of it goes to stdout but a preview on a terminal.

    payload: the answer in its JSON form. Raises InvalidInputError and OSError for what cannot be written.
    """
    from clipsearch.gallery.tiles import MAX_TILES, to_tiles

    tiles = to_tiles(payload["hits"])
    drawn = tiles[:MAX_TILES]
    if len(tiles) > MAX_TILES and (showing.preview or showing.sheet or showing.html):
        note(f"Only the first {MAX_TILES:,} of {len(tiles):,} matches are drawn.")
    if showing.preview:
        _preview(drawn, settings)
    if showing.sheet is not None:
        _write_sheet(showing.sheet, payload, drawn, settings, library)
    if showing.html is not None:
        _write_page(showing.html, payload, drawn, settings)
    _fill_folders(showing, tiles, library)
    if showing.open_it:
        made = [os.path.abspath(name) for name in (showing.sheet, showing.html) if name is not None]
        _open([(name, None) for name in made] or _first_files(tiles))


def _preview(tiles: Sequence[Tile], settings: Settings) -> None:
    from clipsearch.cli.preview import draw_tiles
    from clipsearch.cli.terminal import find_terminal, look_at

    if tiles:
        draw_tiles(look_at(find_terminal(), settings.preview), tiles, settings, os.path.abspath(os.curdir))


def _write_sheet(
    name: str, payload: Mapping[str, Any], tiles: Sequence[Tile], settings: Settings, library: Path
) -> None:
    from clipsearch.gallery.sheet import FORMATS, draw_sheet

    if any(_is_same(name, path) for path in (payload["query"], *(tile.path for tile in tiles if tile.is_file))):
        raise InvalidInputError(f"{name} is one of the matching pictures, and is not overwritten. Name another file.")
    sheet = draw_sheet(payload["query"], tiles, settings)
    replace_file(Path(name), sheet.encode(FORMATS[Path(name).suffix.lower()]))
    if sheet.escaped:
        missing = "".join(sorted(sheet.escaped)[:10])
        note(
            f"No font here has {printable(missing)}, so the sheet shows \\uXXXX "
            "instead. Install a font such as Noto Sans."
        )
    _warn_if_indexed(name, library)


def _is_same(name: str, path: str) -> bool:
    with suppress(OSError, ValueError):
        return os.path.samefile(name, path)
    return False


def _write_page(name: str, payload: Mapping[str, Any], tiles: Sequence[Tile], settings: Settings) -> None:
    from clipsearch.gallery.page import render_page

    remark = f"{len(tiles)} matches, best first, by {payload['encoder']} from {payload['library']}"
    groups = [(each["day"] or "no date", each["count"]) for each in payload.get("groups", ())]
    page = render_page(payload["query"], remark if tiles else "No match.", tiles, settings, groups)
    replace_file(Path(name), page)


def _fill_folders(showing: Showing, tiles: Sequence[Tile], library: Path) -> None:
    from clipsearch.gallery.folder import copy_files, link_files

    if showing.copy_to is not None:
        _report(copy_files(tiles, showing.copy_to), "copied", showing.copy_to)
        # Links to what is indexed are passed over by an indexing run, copies are not.
        _warn_if_indexed(showing.copy_to, library)
    if showing.link_to is not None:
        _report(link_files(tiles, showing.link_to), "linked", showing.link_to)


def _report(filled: Filled, done: str, folder: str) -> None:
    there = f", {filled.there:,} already there" if filled.there else ""
    skipped = f", {len(filled.skipped):,} skipped" if filled.skipped else ""
    note(f"{count_files(filled.made)} {done} to {printable(folder)}{there}{skipped}.")
    for path, reason in filled.skipped:
        note(f"  skipped: {printable(path)}: {reason}")


def _warn_if_indexed(name: str, library: Path) -> None:
    from clipsearch.store.library import Library
    from clipsearch.store.roots import find_scope

    try:
        opened = Library(library)
        try:
            with opened.query() as connection:
                scope = find_scope(connection, opened.base, os.path.realpath(name))
        finally:
            opened.close()
    except ClipSearchError:  # the answer stands, whatever has become of its library
        return
    if scope is not None:
        note(f"Note: {printable(name)} is in an indexed folder, so the next `clipsearch index` will index it.")


def _first_files(tiles: Sequence[Tile]) -> list[tuple[str, float | None]]:
    """Return the files of the first hits, each with the time in seconds at which a film matches."""
    times = {
        tile.path: None if tile.position is None else tile.position.time for tile in reversed(tiles) if tile.is_file
    }
    files = [path for path in dict.fromkeys(tile.path for tile in tiles if tile.is_file) if os.path.isfile(path)]
    if len(files) > OPENED:
        note(f"Opening the first {OPENED} of {len(files):,} files.")
    return [(path, times[path]) for path in files[:OPENED]]


def _opener() -> str:
    """Return the program that opens a file in its viewer; empty on Windows, which does so itself."""
    if sys.platform == "win32":
        return ""
    from shutil import which

    name = "open" if sys.platform == "darwin" else "xdg-open"
    if name == "xdg-open" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InvalidInputError("There is no display to open files on. Leave out --open.")
    program = which(name)
    if program is None:
        raise InvalidInputError(f"Opening files needs {name}, which is not installed. Install it, or leave out --open.")
    return program


def open_command(path: str, time: float | None) -> list[str]:
    """Return the command that opens a file, a film at a time in seconds where a player that can is installed."""
    from shutil import which

    for name, option in _PLAYERS if time else ():
        if (player := which(name)) is not None:
            return [player, option.format(time), path]
    return [_opener(), path]


def _open(files: Sequence[tuple[str, float | None]]) -> None:
    """Open files. Not by click.launch: the viewer would hold our stdout open, and whoever reads it would wait."""
    for path, time in files:
        if sys.platform == "win32":
            os.startfile(path)
        else:
            nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
            command = open_command(path, time)
            os.posix_spawn(command[0], command, os.environ, file_actions=nowhere, setpgroup=0)
