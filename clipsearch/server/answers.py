"""What responses of the HTTP API say, as pydantic models with their descriptions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Open(BaseModel):
    """Part of a response; later versions may have more."""

    model_config = ConfigDict(extra="allow")


class Part(_Open):
    """The words that matched."""

    index: int
    line: int
    end_line: int
    text: str


class Item(_Open):
    """An item of the library."""

    id: int
    key: str = Field(description="The caller's id of a record, else the path.")
    path: str
    modality: str
    taken_at: str | None = Field(description="Local time of the camera.")
    camera: str | None
    width: int | None
    height: int | None
    latitude: float | None
    longitude: float | None
    caption: str | None
    text: str | None = Field(description="Of a record; cut to 2,000 characters in lists.")
    metadata: dict[str, Any]
    tags: list[str] = Field(description="In order, whoever says them.")
    media: str | None = Field(description="Of an item of several parts: `film` or `document`.")
    duration: float | None = Field(description="Of a film, in seconds.")
    pages: int | None = Field(description="Of a document.")
    content_hash: str
    thumbnail: str | None = Field(description="Where its thumbnail is, if it is a picture; 404 if none is kept.")


class Hit(_Open):
    """One match, with what is known of its item."""

    rank: int
    id: int
    key: str
    path: str
    modality: str = Field(description="What matched: a picture, or words.")
    item_modality: str
    score: float = Field(description="Cosine of the query and the match.")
    confidence: float | None = Field(description="Chance that the hit is right; null if unknown.")
    part: Part | None = Field(description="The words that matched; null for a picture.")
    caption: str | None
    metadata: dict[str, Any]
    tags: list[str]
    thumbnail: str | None


class Suggestion(_Open):
    """What a query that found nothing confident may have meant."""

    kind: str = Field(description="`spelling`, the query in words of the library; `tag`; or `caption`.")
    text: str


class Understood(_Open):
    """What the words of a query mean."""

    text: str = Field(description="The words that remain; empty where all were about the filter.")
    filters: dict[str, Any] | None = Field(description="The filter that was lifted out of them, as a search takes it.")
    parts: list[str] = Field(description="What it says, for people.")
    without: list[str] = Field(description="What the words say is not there; a search takes it away.")
    description: str = Field(description="All of it, for people: `beach, taken in July 2023`.")


class Answer(_Open):
    """A ranked answer, best first."""

    query: str
    encoder: str
    library: str
    hits: list[Hit]
    confident: bool = Field(description="Whether any hit stands out.")
    warnings: list[str]
    left_out: int = Field(description="Hits with too little confidence or score, or after the gap.")
    next_offset: int | None = Field(description="The `offset` of the next hits; null after the last.")
    suggestions: list[Suggestion] = Field(default=[], description="Only where they were asked for, and there are any.")


class Match(_Open):
    """A picture that another one was made from, with what is known of its item."""

    rank: int
    id: int
    key: str
    path: str
    score: float = Field(description="Cosine by which it was proposed.")
    points: int = Field(description="How many points of the two pictures agree.")
    box: list[float] = Field(
        description="Where in the item the picture lies: left, top, width and height, from 0 to 1."
    )
    mirrored: bool
    thumbnail: str | None


class Unread(_Open):
    """A candidate that could not be compared."""

    id: int
    path: str
    score: float
    reason: str


class Matches(_Open):
    """What a picture was made from, best first; no match where none of the library is its original."""

    query: str
    encoder: str
    library: str
    matches: list[Match]
    compared: int = Field(description="How many candidates were looked at.")
    unread: list[Unread] = Field(description="Those that cannot be read now, the most similar first.")
    warnings: list[str]


class Listing(_Open):
    """Items, newest first."""

    library: str
    total: int
    items: list[Item]
    warnings: list[str]
    next_offset: int | None = Field(description="The `offset` of the next items; null after the last.")


class Page(_Open):
    """Items in order of their ids."""

    items: list[Item]
    warnings: list[str]
    cursor: str | None = Field(description="The `cursor` of the next page; null after the last.")


class Looked(_Open):
    """Items by their keys."""

    items: list[Item | None] = Field(description="In the order of the keys; null for an unknown one.")


class Vectors(_Open):
    """The vectors of items."""

    dimensions: int
    data: str = Field(description="Base64 of float32 numbers, the least significant byte first: a row for each key.")


class Counted(_Open):
    """A value and how many items have it."""

    value: str
    count: int


class Facets(_Open):
    """How many items have each value."""

    total: int
    months: list[Counted]
    cameras: list[Counted]
    folders: list[Counted]
    tags: list[Counted]
    modalities: list[Counted]


class Cluster(_Open):
    """Items that were taken near each other."""

    latitude: float = Field(description="Of their middle.")
    longitude: float
    count: int
    id: int = Field(description="One of them.")


class Places(_Open):
    """Where items were taken."""

    total: int = Field(description="How many items have a place.")
    clusters: list[Cluster] = Field(description="Most items first.")
    bounds: list[float] | None = Field(
        description="South, west, north and east of the items; a west beyond the east lies across the date line."
    )


class Stats(_Open):
    """What the library holds, and what the server allows."""

    library: str
    items: int
    pictures: int
    texts: int
    encoder: str | None
    dimensions: int | None
    writable: bool
    version: str


class State(_Open):
    """Whether the server works."""

    status: str
