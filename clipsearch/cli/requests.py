"""A query of the command line and what is printed for it: the same whether this process or the daemon answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from clipsearch.paths import printable
from clipsearch.query.options import SearchOptions

if TYPE_CHECKING:
    from clipsearch.client.client import Client
    from clipsearch.query.engine import SearchEngine
    from clipsearch.types import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A query as it was written: a text, the path of a picture, or several terms, as `str(Query)` prints them.

    shape: `table`, `json`, `paths` or `print0`. folder: the current one; paths below it are shown short. shown: the
    hits are to be shown in other ways as well.
    """

    text: str | None = None
    image: str | None = None
    query: str | None = None
    options: SearchOptions
    shape: str
    folder: str
    shown: bool = False

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values, as the daemon is asked."""
        names = ("text", "image", "query", "shape", "folder", "shown")
        return {**{name: getattr(self, name) for name in names}, "options": self.options.to_values()}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_values` returned. Raises ClipSearchError, TypeError, KeyError or ValueError for others."""
        return cls(**{**values, "options": SearchOptions.from_values(values["options"])})


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes to stdout, the remarks that go to stderr before it, and the JSON form where hits are to be shown."""

    out: bytes
    notes: tuple[str, ...]
    payload: dict[str, Any] | None = None


def answer(engine: SearchEngine | Client, asked: SearchRequest, picture: str | None = None) -> Answer:
    """Search, and put what was found in the shape that was asked for. Raises as `SearchEngine.search` does.

    picture: the absolute path of the picture, for a process that is in another folder.
    """
    from clipsearch.present import to_payload
    from clipsearch.query.parser import parse

    image = picture or asked.image
    words = asked.text if asked.query is None else parse(asked.query)
    results = engine.answer(words, image=image, options=asked.options)
    if asked.image is not None:
        results = replace(results, query=asked.image)
    notes = [*map(printable, results.warnings)]
    if asked.shape == "table" and not results.confident and (len(results) or not results.left_out):
        notes.append("No confident match. The nearest are:" if len(results) else "No match.")
    return Answer(_shaped(results, asked), tuple(notes), to_payload(results) if asked.shown else None)


def _shaped(results: Results, asked: SearchRequest) -> bytes:
    from clipsearch import present

    if asked.shape == "json":
        return present.to_json(present.to_payload(results))
    if asked.shape != "table":
        return present.to_paths(results.hits, b"\0" if asked.shape == "print0" else b"\n")
    return present.to_table(results, asked.folder).encode("utf-8", "backslashreplace")
