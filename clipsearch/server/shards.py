"""What a server says of one state of its library to whoever searches it together with others; see client/part.py.

It says no more than the rest of the API does: rows, which `/v1/vectors` has too, and items. Each answer is of one
revision. A row has another number after a compaction, so whoever names rows names the revision; a newer one is said
to be there, in place of an answer.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from clipsearch.errors import InvalidInputError
from clipsearch.query.joint.part import LocalPart
from clipsearch.server import forms, payloads
from clipsearch.store.snapshot import SAMPLE_ROWS, Snapshot
from clipsearch.types import Modality

MAX_ROWS = 1 << 17
"""Rows or ids that a request names, and nearest rows that it asks for."""

Phrase = Annotated[str, Field(min_length=1, max_length=10_000)]
Whole = Annotated[int, Field(ge=0, le=forms.MAX_ID)]


class ShardRequest(BaseModel):
    """One of the questions that `ANSWERS` names, and what it is about. Arrays are base64 of little-endian numbers."""

    model_config = ConfigDict(extra="forbid")

    ask: Literal[
        "state", "nearest", "sample", "rows", "matches", "rows_of_items", "rows_of_pictures", "matching", "ids",
        "lines", "word_counts", "word_matches",
    ]  # fmt: skip
    revision: Whole | None = None
    modality: Modality = Modality.IMAGE
    vectors: Annotated[str, Field(max_length=1 << 24)] = ""
    kind: Literal["text", "image"] | None = None
    filters: forms.Filters | None = None
    k: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 10
    numbers: Annotated[str, Field(max_length=12 * MAX_ROWS)] = ""
    start: Whole = 0
    step: Annotated[int, Field(ge=1, le=forms.MAX_ID)] = 1
    phrases: Annotated[list[Phrase], Field(max_length=256)] = []
    counts: Annotated[list[Whole], Field(max_length=256)] = []
    ways: Annotated[list[Whole], Field(max_length=256)] = []
    most: Whole = 0


def answer_shard(part: LocalPart, asked: ShardRequest) -> dict[str, Any]:
    """Answer a question. Raises InvalidInputError for what it cannot be about, ClipSearchError."""
    with part.read() as state:
        if asked.revision is not None and asked.revision != state.revision:
            return {"revision": state.revision, "changed": True}
        found = ANSWERS[asked.ask](part, state, asked)
        return {
            "revision": state.revision,
            "changed": False,
            **found,
            "warnings": [*found.get("warnings", ()), *state.warnings],
        }


def _state(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    pin = part.pin()
    words = state.word_statistics()
    return {
        "encoder": pin and asdict(pin),
        "rows": {str(each): len(state.rows(each)) for each in Modality},
        "live": {str(each): state.live_count(each) for each in Modality},
        "spreads": state.spreads().dump(),
        "copy_distance": state.copy_distance().dump(),
        "words": list(words),
    }


def _nearest(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    dim = state.rows(asked.modality).dim
    queries = _decode(asked.vectors, "<f4").astype(np.float32)
    if not dim or len(queries) % dim or not len(queries) or not np.isfinite(queries).all():
        raise InvalidInputError(f"The queries are not of {dim:,} dimensions.")
    wanted = None if asked.filters is None else asked.filters.build()
    found, warnings = part.nearest(state, queries.reshape(-1, dim), asked.kind, wanted, asked.modality, asked.k)
    rows = np.unique(found.ids[found.ids >= 0])
    owners = state.item_ids_of_rows(asked.modality, rows.tolist())
    counts = {} if wanted is None else {"matching": state.matching_count(asked.modality, wanted)}
    return {
        **counts,
        "ids": _encode(found.ids, "<i8"),
        "scores": _encode(np.where(np.isneginf(found.scores), -2, found.scores), "<f4"),
        "columns": found.ids.shape[1],
        "rows": _encode(rows, "<i8"),
        "items": _encode(np.array([owners.get(row, -1) for row in rows.tolist()], np.int64), "<i8"),
        "vectors": _encode(state.rows(asked.modality).gather(rows), "<f2"),
        "warnings": sorted(warnings),
    }


def _sample(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    if state.live_count(asked.modality) > (SAMPLE_ROWS + 1) * asked.step:
        raise InvalidInputError(f"A sample of {asked.step:,} has more than {SAMPLE_ROWS:,} rows.")
    return {"vectors": _encode(part.spread_rows(state, asked.modality, asked.start, asked.step), "<f2")}


def _rows(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    return {"vectors": _encode(state.rows(asked.modality).gather(_numbers(asked)), "<f2")}


def _matches(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    known = state.matches(asked.modality, _numbers(asked).tolist())
    sound = {row: match for row, match in known.items() if state.is_sound(match)}
    items = {item.id: item for item in state.items_by_id({match.item_id for match in sound.values()})}
    matches = [
        {
            "row": row,
            "item": payloads.item(items[match.item_id], whole=True),
            "part": match.part,
            "passage": match.passage and asdict(match.passage),
            "position": match.position and asdict(match.position),
        }
        for row, match in sound.items()
        if match.item_id in items
    ]
    return {"matches": matches}


def _rows_of_items(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    return _pairs(state.rows_of_items(asked.modality, _numbers(asked).tolist()))


def _rows_of_pictures(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    return _pairs(state.rows_of_pictures(_numbers(asked).tolist()))


def _matching(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    return {"numbers": _encode(state.matching(asked.modality, (asked.filters or forms.Filters()).build()), "<i8")}


def _ids(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    return {"numbers": _encode(state.matching_ids((asked.filters or forms.Filters()).build()), "<i8")}


def _lines(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    found = state.recognised_lines(_numbers(asked).tolist())
    return {"lines": [{"id": number, "lines": [asdict(line) for line in lines]} for number, lines in found.items()]}


def _word_counts(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    return {"counts": state.word_counts(asked.phrases, asked.most)}


def _word_matches(part: LocalPart, state: Snapshot, asked: ShardRequest) -> dict[str, Any]:
    if len(asked.counts) != len(asked.phrases):
        raise InvalidInputError("There must be a count for each phrase.")
    wanted = None if asked.filters is None else asked.filters.build()
    ways = asked.ways or [1] * len(asked.phrases)
    if sum(ways) != len(asked.phrases) or not all(ways):
        raise InvalidInputError("Each phrase must be a spelling of one of the words.")
    spelled = iter(zip(asked.phrases, asked.counts, strict=True))
    found = state.word_matches([dict(islice(spelled, count)) for count in ways], wanted, min(asked.k, 1000))
    return {"matches": [[each.item_id, each.length, *each.frequencies] for each in found]}


ANSWERS: dict[str, Callable[[LocalPart, Snapshot, ShardRequest], dict[str, Any]]] = {
    "state": _state,
    "nearest": _nearest,
    "sample": _sample,
    "rows": _rows,
    "matches": _matches,
    "rows_of_items": _rows_of_items,
    "rows_of_pictures": _rows_of_pictures,
    "matching": _matching,
    "ids": _ids,
    "lines": _lines,
    "word_counts": _word_counts,
    "word_matches": _word_matches,
}


def _numbers(asked: ShardRequest) -> NDArray[np.int64]:
    return _decode(asked.numbers, "<i8").astype(np.int64)


def _decode(text: str, kind: str) -> NDArray[Any]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), kind)
    except ValueError as error:
        raise InvalidInputError(f"What should be base64 of numbers is not: {error}.") from error


def _encode(numbers: NDArray[Any], kind: str) -> str:
    return base64.b64encode(numbers.astype(kind).tobytes()).decode()


def _pairs(found: dict[int, int]) -> dict[str, Any]:
    keys, values = (np.fromiter(part, np.int64, len(found)) for part in (found.keys(), found.values()))
    return {"numbers": _encode(keys, "<i8"), "values": _encode(values, "<i8")}
