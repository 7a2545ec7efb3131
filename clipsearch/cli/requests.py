"""A query of the command line and what is printed for it: the same whether this process or the daemon answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from clipsearch.paths import printable
from clipsearch.query.options import SearchOptions

if TYPE_CHECKING:
    from clipsearch.client.client import Client
    from clipsearch.query.engine import SearchEngine
    from clipsearch.query.joint.engine import JointEngine
    from clipsearch.types import Item, Results


_LOOKED_AT, _LOOK_SECONDS = 100, 0.5
"""Files of an answer that are looked at, whether they are as they were indexed, and for how long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A query as it was written: a text, the path of a picture, or several terms, as `str(Query)` prints them.

    shape: `table`, `json`, `paths`, `print0` or `lines`. folder: the current one; paths below it are shown short.
    shown: the hits are to be shown in other ways as well. template: of lines; None for their paths. group: `day`, to
    put hits of a day together.
    """

    text: str | None = None
    image: str | None = None
    query: str | None = None
    options: SearchOptions
    shape: str
    folder: str
    shown: bool = False
    template: str | None = None
    group: str | None = None

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values, as the daemon is asked."""
        names = ("text", "image", "query", "shape", "folder", "shown", "template", "group")
        return {**{name: getattr(self, name) for name in names}, "options": self.options.to_values()}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_values` returned. Raises ClipSearchError, TypeError, KeyError or ValueError for others."""
        return cls(**{**values, "options": SearchOptions.from_values(values["options"])})


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes to stdout, the remarks that go to stderr before it, and the JSON form where hits are to be shown.

    confident: whether a hit stands out.
    """

    out: bytes
    notes: tuple[str, ...]
    payload: dict[str, Any] | None = None
    confident: bool = True

    def exit_code(self, fail_if_none: bool) -> int:
        """Return the exit code of the command. fail_if_none: it is to fail where no hit stands out."""
        return int(fail_if_none and not self.confident)


def answer(
    engine: SearchEngine | Client | JointEngine,
    asked: SearchRequest,
    picture: str | None = None,
    *,
    is_here: bool = True,
) -> Answer:
    """Search, and put what was found in the shape that was asked for. Raises as `SearchEngine.search` does.

    picture: the absolute path of the picture, for a process that is in another folder. is_here: whether the files of
    the library are those of this machine.
    """
    from clipsearch.query.parser import parse

    image = picture or asked.image
    words = asked.text if asked.query is None else parse(asked.query)
    results = engine.answer(words, image=image, options=asked.options)
    if asked.image is not None:
        results = replace(results, query=asked.image)
    return shape_answer(results, asked, is_here=is_here)


def shape_answer(results: Results, asked: SearchRequest, *, is_here: bool, only_new: bool = False) -> Answer:
    """Put what was found in the shape that was asked for.

    is_here: see `answer`. only_new: only what is new was asked for; then a warning says that nothing is.
    """
    from clipsearch.present import to_payload

    notes = [*map(printable, results.warnings)]
    if results.suggestions and asked.shape == "table":
        from clipsearch.present import suggestion_lines

        notes += suggestion_lines(results)
    if results.understood is not None:
        said = printable(str(results.understood["description"]))
        notes.insert(0, f"Understood: {said}. --plain searches for the words as they stand.")
    if asked.shape == "table" and not results.confident and (len(results) or not (results.left_out or only_new)):
        notes.append("No confident match. The nearest are:" if len(results) else "No match.")
    if asked.shape == "table" and is_here:
        notes += _stale(results)
    payload = to_payload(results, asked.group) if asked.shown else None
    return Answer(_shaped(results, asked), tuple(notes), payload, bool(results) and results.confident)


def _stale(results: Results) -> list[str]:
    """Say which of the files that are shown have changed since they were indexed, or are not there.

    A drive that does not answer holds the answer for _LOOK_SECONDS at most; then nothing is said.
    """
    said: list[list[str]] = []
    looking = threading.Thread(target=lambda: said.append(_look(results)), name="stale-files", daemon=True)
    looking.start()
    looking.join(_LOOK_SECONDS)
    return said[0] if said else []


def _look(results: Results) -> list[str]:
    changed, gone = [], []
    for hit in results.hits[:_LOOKED_AT]:
        if not _is_local_file(hit.item):
            continue
        try:
            status = os.stat(hit.item.path)
        except FileNotFoundError:
            gone.append(hit.item.path)
        except (OSError, ValueError):
            continue
        else:
            if (status.st_size, status.st_mtime_ns) != (hit.item.size, hit.item.mtime_ns):
                changed.append(hit.item.path)
    said = (("has changed since it was indexed", changed), ("is no longer there", gone))
    return [_of_files(what, paths) for what, paths in said if paths]


def _is_local_file(item: Item) -> bool:
    """Tell whether an item is a file to look at.

    A record has no time. To look at a UNC path, which a stranger's library can name, Windows logs in to its server.
    """
    is_unc = os.path.splitdrive(item.path)[0].startswith(("\\\\", "//"))
    return bool(item.mtime_ns) and os.path.isabs(item.path) and not is_unc


def _of_files(what: str, paths: list[str]) -> str:
    more = f", and {len(paths) - 1:,} more of these files" if len(paths) > 1 else ""
    return f"{printable(paths[0])} {what}{more}. To bring the library up to date: clipsearch index"


def _shaped(results: Results, asked: SearchRequest) -> bytes:
    from clipsearch import present

    if asked.shape == "json":
        return present.to_json(present.to_payload(results, asked.group))
    if asked.template is not None:
        from clipsearch.cli.templates import HIT_FIELDS, read_template

        return read_template(asked.template, HIT_FIELDS).write(results.hits, "\0" if asked.shape == "print0" else "\n")
    if asked.shape != "table":
        hits, _ = present.in_groups(results, asked.group)
        return present.to_paths(hits, b"\0" if asked.shape == "print0" else b"\n")
    return present.to_table(results, asked.folder, asked.group).encode("utf-8", "backslashreplace")
