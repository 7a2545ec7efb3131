"""A web page of an answer: one file that needs nothing else, with its thumbnails in it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import partial
from html import escape
from io import BytesIO
from itertools import islice
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.errors import PictureError
from clipsearch.gallery.tiles import Tile, map_tiles, read_thumbnail
from clipsearch.paths import printable
from clipsearch.present import explain
from clipsearch.types import PartPosition

_SIDE = 400
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{query} · clipsearch</title>
<style>
:root {{ color-scheme: light dark; --paper: #f6f6f4; --card: #fff; --ink: #1c1c1c; --faint: #5c5c5c; --line: #d4d4d0; }}
@media (prefers-color-scheme: dark) {{
:root {{ --paper: #171717; --card: #232323; --ink: #ececec; --faint: #a8a8a8; --line: #3c3c3c; }}
}}
body {{ margin: 0 auto; padding: 1.5rem; max-width: 110rem; background: var(--paper); color: var(--ink);
font: 1rem/1.45 system-ui, sans-serif; }}
h2 {{ font-size: 1.1rem; margin: 1.5rem 0 -.5rem; }}
h1 {{ font-size: 1.35rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }}
p {{ margin: 0; }}
.faint {{ color: var(--faint); font-size: .875rem; }}
ol {{ list-style: none; margin: 1.5rem 0 0; padding: 0; display: grid; gap: 1rem;
grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); }}
li {{ background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; }}
a {{ display: block; color: inherit; text-decoration: none; }}
a:focus-visible {{ outline: 3px solid #2a7fff; outline-offset: -3px; }}
.seen {{ display: grid; place-items: center; height: 15rem; background: var(--paper); }}
img {{ display: block; width: auto; height: auto; max-width: 100%; max-height: 15rem; }}
blockquote, .missing {{ box-sizing: border-box; margin: 0; padding: 1rem; overflow: auto; overflow-wrap: anywhere; }}
blockquote.seen {{ white-space: pre-line; align-items: start; justify-items: start; }}
.missing.seen {{ background: var(--line); }}
.said {{ padding: .6rem .8rem .8rem; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<main>
<h1>{query}</h1>
<p class="faint">{remark}</p>
{lists}
</main>
</body>
</html>
"""


def render_page(
    query: str, remark: str, tiles: Sequence[Tile], settings: Settings, groups: Sequence[tuple[str, int]] = ()
) -> bytes:
    """Return the page, in UTF-8. remark: a line below the query. groups: a heading, and of how many tiles in a row.

    Names and passages are escaped, and the page runs no script. Each hit leads to its file. A picture that cannot be
    read is a grey field with the reason.
    """
    items = iter(map_tiles(partial(_item, settings=settings), tiles, settings))
    lists = [f"<h2>{_text(title)}</h2>\n{_list(islice(items, count))}" for title, count in groups] or [_list(items)]
    return _PAGE.format(query=_text(query), remark=_text(remark), lists="\n".join(lists)).encode()


def _list(items: Iterable[str]) -> str:
    written = "\n".join(items)
    return f"<ol>\n{written}\n</ol>"


def _item(tile: Tile, settings: Settings) -> str:
    link = _address(tile)
    try:
        seen = _seen(tile, settings)
    except PictureError as error:
        seen, link = f'<div class="seen missing">{_text(str(error))}</div>', None if tile.is_file else link
    if link is not None:
        seen = f'<a href="{escape(link)}">{seen}</a>'
    return (
        f"<li>\n{seen}\n"
        f'<div class="said"><p>{_text(tile.name)}</p>\n<p class="faint">{_text(" · ".join(tile.figures.split()))}</p>\n'
        f'<p class="faint">{_text(printable(tile.path))}</p>{_explained(tile)}</div>\n</li>'
    )


def _explained(tile: Tile) -> str:
    """Return why a hit stands where it does, to be opened; the words that match are marked."""
    if tile.explanation is None:
        return ""
    bare = {**tile.explanation, "words": ()}
    lines = [_text(line) for line in explain(bare)]
    lines += [
        f"{_text(match['source'])}: {_marked(match['text'], match['spans'])}" for match in tile.explanation["words"]
    ]
    written = "".join(f"<p>{line}</p>" for line in lines)
    return f'\n<details class="faint"><summary>Why it is here</summary>{written}</details>'


def _marked(text: str, spans: Sequence[Sequence[int]]) -> str:
    text = "".join(" " if c.isspace() else c for c in text)  # line ends at the edges of words would be lost
    parts, end = [], 0
    for start, after in spans:
        if start >= end:
            parts.append(f"{_text(text[end:start])}<mark>{_text(text[start:after])}</mark>")
            end = after
    return "".join(parts) + _text(text[end:])


def _seen(tile: Tile, settings: Settings) -> str:
    """Return the passage, or the thumbnail. Raises PictureError."""
    if tile.passage is not None:
        return f'<blockquote class="seen">{_text(tile.passage)}</blockquote>'
    picture = read_thumbnail(tile.path, (_SIDE, _SIDE), settings, tile.position)
    data = BytesIO()
    picture.save(data, "JPEG", quality=82)
    source = f"data:image/jpeg;base64,{b64encode(data.getvalue()).decode()}"
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<div class="seen"><img src="{source}" alt="{_text(tile.name)}" {size}></div>'


def _address(tile: Tile) -> str | None:
    """Return where a hit leads: to its file, or to the web page of a record; nowhere else."""
    if tile.is_file:
        # Browsers open a PDF at a page (RFC 8118).
        return Path(tile.path).as_uri() + _fragment(tile.position)
    return printable(tile.path) if tile.path.lower().startswith(("https://", "http://")) else None


def _fragment(position: PartPosition | None) -> str:
    """Return where in a file a browser begins: at a page (RFC 8118), or at a time (W3C Media Fragments)."""
    if position is None:
        return ""
    return f"#page={position.page}" if position.page is not None else f"#t={position.time:g}"


def _text(text: str) -> str:
    """Escape text for a page, its lines kept."""
    return escape("\n".join(map(printable, text.splitlines())))
