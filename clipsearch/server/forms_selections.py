"""What routes take that are about many items at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from clipsearch.forms import Key, Names
from clipsearch.server.forms import Id
from clipsearch.words import MAX_NAME

MAX_SELECTED = 10_000
"""Items that a request may name."""

MAX_FILES = 1000
"""Files of a download."""

CollectionName = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME, description="Compared without case; no control characters.")
]
Selected = Annotated[list[Id], Field(max_length=MAX_SELECTED)]


class TagsRequest(BaseModel):
    """Tags to add to items, and to remove from them."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ids": [1, 2], "add": ["beach"], "remove": ["snow"]}]}
    )

    ids: Selected = Field(default=[], description="Ids of items.")
    keys: Annotated[list[Key], Field(max_length=MAX_SELECTED)] = Field(default=[], description="Keys of items.")
    add: Names = Field(default=[], description="Tags to add, compared without case.")
    remove: Names = Field(default=[], description="Tags to remove, whoever says them.")


class CollectionView(BaseModel):
    """A named set of items."""

    name: str
    count: int = Field(description="How many of its items can be found.")
    cover: int | None = Field(description="The id of the first of its pictures, in the order of adding.")


class NewCollection(BaseModel):
    """What a new collection has."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ids": [1, 2]}]})

    ids: Selected = Field(default=[], description="Ids of items, in the order of adding.")


class CollectionChange(BaseModel):
    """Items to add to a collection, and to take out of it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"add": [3], "remove": [1]}]})

    add: Selected = Field(default=[], description="Ids of items.")
    remove: Selected = Field(default=[], description="Ids of items.")


class NewName(BaseModel):
    """A new name."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "Summer 2024"}]})

    name: CollectionName


class DownloadRequest(BaseModel):
    """Items whose files are wanted."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ids": [1, 2]}]})

    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_FILES, description="Ids of items.")]
