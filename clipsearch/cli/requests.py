"""A query of the command line and what is printed for it: the same whether this process or the daemon answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsearch.query.engine import SearchEngine
    from clipsearch.types import Results


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A query as it was written: a text, the path of a picture, or several terms, as `str(Query)` prints them.

    fusion: of several terms. shape: `table`, `json`, `paths` or `print0`. folder: the current one; paths below it are
    shown short. shown: the hits are to be shown in other ways as well. filters: a Filter as
    `clipsearch.filtering.to_values` writes it, its folders absolute. collapse: show copies and bursts once.
    min_confidence, min_score, cut: what is left out, and hybrid: whether words count beside vectors, as
    `SearchEngine.search` has them.
    """

    text: str | None
    image: str | None
    query: str | None
    fusion: str
    k: int
    modality: str
    exclude_self: bool
    shape: str
    folder: str
    shown: bool = False
    filters: dict[str, Any] | None = None
    collapse: bool = False
    min_confidence: float | None = None
    min_score: float | None = None
    cut: bool = False
    hybrid: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes to stdout, the remarks that go to stderr before it, and the JSON form where hits are to be shown."""

    out: bytes
    notes: tuple[str, ...]
    payload: dict[str, Any] | None = None


def answer(engine: SearchEngine, asked: SearchRequest, picture: str | None = None) -> Answer:
    """Search, and put what was found in the shape that was asked for. Raises as `SearchEngine.search` does.

    picture: the absolute path of the picture, for a process that is in another folder.
    """
    from clipsearch.filtering import from_values
    from clipsearch.present import to_payload
    from clipsearch.query.parser import parse

    image = picture or asked.image
    words = asked.text if asked.query is None else parse(asked.query)
    results = engine.search(
        words,
        image=image,
        k=asked.k,
        modality=asked.modality,
        filters=None if asked.filters is None else from_values(asked.filters),
        exclude_self=asked.exclude_self,
        fusion=asked.fusion,
        collapse=asked.collapse,
        min_confidence=asked.min_confidence,
        min_score=asked.min_score,
        cut=asked.cut,
        hybrid=asked.hybrid,
    )
    if asked.image is not None:
        results = replace(results, query=asked.image)
    notes = list(results.warnings)
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
