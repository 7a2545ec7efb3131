"""What the tools of the MCP server take and return, as their JSON schemas describe it to a model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, Field

from clipsearch import Filter, InvalidInputError, present
from clipsearch.dates import parse_period

MAX_TEXT, MAX_KEY, MAX_KEYS, MAX_HITS, MAX_OFFSET = 4000, 4096, 100, 100, 10_000

MAX_ANSWER, MAX_EXCERPT = 700_000, 2000
"""Characters of an answer, and of a text or a caption in it; assistants refuse results beyond about a megabyte."""

Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY)]
Keys = Annotated[list[Key], Field(max_length=MAX_KEYS)]
Words = Annotated[str, Field(max_length=MAX_TEXT)]
Count = Annotated[int, Field(ge=1, le=MAX_HITS, description="How many to return at most.")]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET, description="How many of the best to skip: page through an answer.")]
Kind = Annotated[
    Literal["image", "text"] | None, Field(description="What may match: a picture, or words. Leave out for both.")
]
Least = Annotated[
    float | None,
    Field(ge=0, le=1, description="Leave out hits of lower confidence, 0 to 1. 0.75 keeps what stands out."),
]
Names = Annotated[list[Annotated[str, Field(max_length=MAX_TEXT)]], Field(max_length=MAX_KEYS)]

Metadata = Annotated[
    dict[str, str | int | float | bool | list[str] | None] | None,
    Field(max_length=MAX_KEYS, description="Values by name: texts, numbers, booleans, or lists of texts."),
]


class Place(BaseModel):
    """A circle on the earth."""

    model_config = ConfigDict(extra="forbid")

    latitude: float = Field(description="Degrees, north is positive.")
    longitude: float = Field(description="Degrees, east is positive.")
    km: float = Field(description="Radius in kilometres.")


class Filters(BaseModel):
    """Which items may be found. All that is given must hold; of several values of one list, any."""

    model_config = ConfigDict(extra="forbid")

    where: dict[str, Any] | None = Field(
        None,
        max_length=MAX_KEYS,
        description="Conditions on metadata, by name: a value, a list of values any of which may hold, or an object of "
        'comparisons: {"price": {"lt": 20}, "brand": ["acme", "zoo"], "sold": false}. Comparisons are eq, ne, lt, le, '
        "gt, ge, in, nin, contains and exists.",
    )
    tags: Names = Field(default=[], description="Whole tags.")
    caption: Words | None = Field(None, description='Words that the caption or text has: all of them, or "a phrase".')
    types: Names = Field(default=[], description="`image`, `text`, or endings of files such as `png`.")
    folders: Names = Field(default=[], description="Absolute paths of folders that the items lie in.")
    during: Words | None = Field(
        None, description="When a picture was taken: `2024`, `2024-06`, `2024-06-01`, `last summer`."
    )
    after: Words | None = Field(None, description="Taken at or after the beginning of this date.")
    before: Words | None = Field(None, description="Taken before the beginning of this date.")
    cameras: Names = Field(default=[], description="Parts of the names of cameras.")
    near: Place | None = Field(None, description="Taken within a circle.")
    orientation: Literal["landscape", "portrait", "square"] | None = Field(None, description="Of a picture.")
    min_width: int | None = Field(None, ge=0, description="Pixels.")
    min_height: int | None = Field(None, ge=0, description="Pixels.")

    def build(self) -> Filter:
        """Return the filter that they make. Raises InvalidInputError for a value that cannot be used."""
        given: dict[str, Any] = {
            name: value
            for name in ("where", "tags", "caption", "types", "folders", "cameras", "orientation")
            if (value := getattr(self, name))
        }
        given |= {name: value for name in ("min_width", "min_height") if (value := getattr(self, name)) is not None}
        if self.near is not None:
            given["near"] = (self.near.latitude, self.near.longitude, self.near.km)
        return Filter(**(given | self._times()))

    def _times(self) -> dict[str, datetime]:
        now = datetime.now()
        if self.during and (self.after or self.before):
            raise InvalidInputError("A date is given by `during`, or by `after` and `before`, not by both.")
        if self.during:
            start, end = parse_period(self.during, now)
            return {"taken_from": start, "taken_until": end}
        times = {"taken_from": self.after, "taken_until": self.before}
        return {name: parse_period(value, now).start for name, value in times.items() if value}


class _Open(BaseModel):
    """A result; the payload of the command line has more fields than are described here."""

    model_config = ConfigDict(extra="allow")


class Part(_Open):
    """The words that matched."""

    text: str
    line: int
    end_line: int


class Hit(_Open):
    """One match."""

    rank: int = Field(description="Place in the answer, from 1.")
    key: str = Field(description="Names the item in other tools.")
    path: str = Field(description="Where its file is, or a URL.")
    modality: str = Field(description="What matched: a picture, or words.")
    item_modality: str = Field(description="What the item is: a picture or a text.")
    score: float = Field(description="Cosine of the query and the match.")
    confidence: float | None = Field(
        description="Chance that nothing unrelated scores as high; null in a library too small to tell."
    )
    caption: str | None
    text: str | None = Field(description="Of a record: how its text begins.")
    metadata: dict[str, Any]
    part: Part | None = Field(description="The words that matched; null for a picture.")


class Answer(_Open):
    """A ranked answer, best first."""

    hits: list[Hit]
    confident: bool = Field(description="Whether any hit stands out. If not, the nearest are listed all the same.")
    warnings: list[str]
    next_offset: int | None = Field(description="The `offset` of the next hits; null after the last.")


class Item(_Open):
    """An item of the library."""

    key: str = Field(description="Names the item in other tools.")
    path: str
    modality: str
    taken_at: str | None = Field(description="Local time of the camera.")
    caption: str | None
    text: str | None = Field(description="Of a record: how its text begins.")
    tags: list[str]
    metadata: dict[str, Any]


class Listing(_Open):
    """Items, newest first."""

    total: int = Field(description="How many the filters allow.")
    items: list[Item]
    next_offset: int | None = Field(description="The `offset` of the next items; null after the last.")


class Stats(BaseModel):
    """What the library holds."""

    library: str = Field(description="Its folder.")
    items: int
    pictures: int
    texts: int
    encoder: str | None = Field(description="The model that texts and pictures are compared by.")
    dimensions: int | None
    writable: bool = Field(description="Whether tools that change the library are offered.")


class Added(BaseModel):
    """What was stored."""

    added: int
    replaced: int
    unchanged: int


class Changed(BaseModel):
    """How many items were changed."""

    items: int


def to_result(payload: Mapping[str, Any]) -> CallToolResult:
    """Return a payload as structured content, and as the same JSON for models that read text alone."""
    clean = _encodable(payload)
    line = present.to_json(clean).decode().rstrip("\n")
    if len(line) > MAX_ANSWER:
        raise InvalidInputError(f"The answer has {len(line):,} characters, over {MAX_ANSWER:,}. Ask for fewer items.")
    return CallToolResult(content=[TextContent(type="text", text=line)], structured_content=clean)


def excerpt(text: str | None) -> str | None:
    """Return a text, or how it begins."""
    return text if text is None or len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…"


def _encodable(value: Any) -> Any:
    """Escape the bytes of paths that are not UTF-8, which no message can hold."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_encodable(name): _encodable(each) for name, each in value.items()}
    return [_encodable(each) for each in value] if isinstance(value, list | tuple) else value
