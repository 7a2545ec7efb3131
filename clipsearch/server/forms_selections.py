"""What routes take that are about many items at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from clipsearch.forms import Key, Names
from clipsearch.server.forms import Id

MAX_SELECTED = 10_000
"""Items that a request may name."""

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
