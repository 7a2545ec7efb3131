"""Hits drawn in a terminal, in rows: a picture or passage, and below it rank, score, confidence and path."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from PIL import Image
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from clipsearch import present
from clipsearch.cli.drawing import to_blocks, to_iterm2, to_kitty, to_sixel
from clipsearch.cli.terminal import Terminal
from clipsearch.config import Settings
from clipsearch.errors import PictureError
from clipsearch.gallery.tiles import Tile, map_tiles, read_thumbnail
from clipsearch.paths import printable

_GAP, _LEAST, _MOST = 2, 26, 40
"""Cells between tiles, and of the width of one."""

Seen = Image.Image | str


def draw_tiles(terminal: Terminal, tiles: Sequence[Tile], settings: Settings, folder: str) -> None:
    """Draw tiles, as many beside each other as the terminal is wide for.

    folder: paths below it are shown short. What cannot be read is a grey tile with the reason. Whatever the terminal
    takes pictures as, they lie over lines of text that are printed first, so the screen scrolls as it does for text.
    """
    across = max(1, min(len(tiles), (terminal.columns + _GAP) // (_LEAST + _GAP)))
    width = min(_MOST, (terminal.columns - _GAP * (across - 1)) // across)
    cell_width, cell_height = (1, 2) if terminal.protocol == "blocks" else terminal.cell
    shape = terminal.cell[0] / terminal.cell[1]
    height = max(2, min(round(width * shape * 0.75), terminal.rows - 5))
    box = (width * cell_width, height * cell_height)
    seen = map_tiles(partial(_look, box=box, settings=settings), tiles, settings)
    console = Console(file=terminal.stream, width=terminal.columns, no_color=False, highlight=False)
    console.print()
    for start in range(0, len(tiles), across):
        row = list(zip(tiles[start : start + across], seen[start : start + across], strict=True))
        columns = [_lines(console, tile, picture, (width, height), terminal, folder) for tile, picture in row]
        for parts in zip(*columns, strict=True):
            console.print(Text(" " * _GAP).join(parts), no_wrap=True, overflow="crop", soft_wrap=True)
        for place, (_, picture) in enumerate(row):
            if isinstance(picture, Image.Image) and terminal.protocol != "blocks":
                drawn = _encode(picture, terminal.protocol, (width, height), box)
                # up to where the row began, and back to where it ends
                terminal.stream.write(f"\x1b7\x1b[{height + 3}A\x1b[{place * (width + _GAP) + 1}G{drawn}\x1b8")
        terminal.stream.flush()


def _look(tile: Tile, box: tuple[int, int], settings: Settings) -> Seen:
    if tile.passage is not None:
        return tile.passage
    try:
        return read_thumbnail(tile.path, box, settings, tile.position)
    except PictureError as error:
        return str(error)


def _lines(
    console: Console, tile: Tile, seen: Seen, size: tuple[int, int], terminal: Terminal, folder: str
) -> list[Text]:
    """Return the lines of one tile, each of its full width: what is seen, two of caption, an empty one."""
    width, height = size
    if isinstance(seen, str):
        style = "on grey30" if tile.passage is None else ""
        shown = [Text(line.plain, style) for line in Text(_plain(seen)).wrap(console, width)[:height]]
    else:
        style, shown = "", to_blocks(seen) if terminal.protocol == "blocks" else []
    lines = [*shown, *(Text("", style) for _ in range(height - len(shown)))]
    path = present.short_path(tile.path, folder)
    lines += [Text(tile.figures, "bold"), Text(_end_of(path, width)), Text("")]
    for line in lines:
        line.truncate(width, overflow="ellipsis", pad=True)
    return lines


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))


def _end_of(path: str, width: int) -> str:
    """Shorten a path to its end, in cells."""
    if cell_len(path) <= width:
        return path
    while cell_len(path) > width - 1:
        path = path[1:]
    return "…" + path


def _encode(picture: Image.Image, protocol: str, size: tuple[int, int], box: tuple[int, int]) -> str:
    if protocol == "sixel":
        return to_sixel(picture)
    # They stretch a picture over whole cells; what is left of those is transparent.
    padded = Image.new("RGBA", box)
    padded.paste(picture, (0, 0))
    return (to_kitty if protocol == "kitty" else to_iterm2)(padded, *size)
