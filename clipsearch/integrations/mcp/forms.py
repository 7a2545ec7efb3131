"""What the tools of the MCP server take and return, as their JSON schemas describe it to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, Field

from clipsearch import InvalidInputError, present

MAX_HITS, MAX_OFFSET = 100, 10_000

MAX_ANSWER, MAX_EXCERPT = 700_000, 2000
"""Characters of an answer, and of a text or a caption in it; assistants refuse results beyond about a megabyte."""

Count = Annotated[int, Field(ge=1, le=MAX_HITS, description="How many to return at most.")]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET, description="How many of the best to skip: page through an answer.")]
Kind = Annotated[
    Literal["image", "text"] | None, Field(description="What may match: a picture, or words. Leave out for both.")
]
Least = Annotated[
    float | None,
    Field(
        ge=0,
        le=1,
        description="Leave out hits of lower confidence, 0 to 1. 0.5 keeps what is likelier right than wrong.",
    ),
]


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
    confidence: float | None = Field(description="Chance that the hit is right; null in a library too small to tell.")
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
    understood: dict[str, Any] | None = Field(
        default=None, description="What was lifted out of the words: `text` that remained, `filters`, `description`."
    )


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
    clean = present.encodable(payload)
    line = present.to_json(clean).decode().rstrip("\n")
    if len(line) > MAX_ANSWER:
        raise InvalidInputError(f"The answer has {len(line):,} characters, over {MAX_ANSWER:,}. Ask for fewer items.")
    return CallToolResult(content=[TextContent(type="text", text=line)], structured_content=clean)


def excerpt(text: str | None) -> str | None:
    """Return a text, or how it begins."""
    return text if text is None or len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…"
