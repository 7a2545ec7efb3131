"""The tools of the MCP server that change the library."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from clipsearch import InvalidInputError, Record, SearchEngine
from clipsearch.forms import Key, Keys, Metadata, Names, Words
from clipsearch.integrations.mcp import forms


class WritingTools:
    """The tools that change the library."""

    def __init__(self, engine: SearchEngine) -> None:
        self._engine = engine

    def add_text(
        self,
        key: Annotated[Key, Field(description="Your name for it; what has that name already is replaced.")],
        text: Annotated[str, Field(min_length=1, max_length=1_000_000, description="The text.")],
        metadata: Metadata = None,
    ) -> Annotated[CallToolResult, forms.Added]:
        """Add a text to the library, or replace the one of that key."""
        return self._add(Record(key, text=text, metadata=metadata))

    def add_image(
        self,
        key: Annotated[Key, Field(description="Your name for it; what has that name already is replaced.")],
        data: Annotated[str, Field(min_length=1, description="The bytes of a picture file, in base64.")],
        caption: Annotated[Words | None, Field(description="What is said of the picture.")] = None,
        metadata: Metadata = None,
    ) -> Annotated[CallToolResult, forms.Added]:
        """Add a picture to the library, or replace the one of that key. A thumbnail of it is kept."""
        try:
            picture = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInputError(f"data is not base64: {error}. Encode the bytes of the picture file.") from error
        return self._add(Record(key, image=picture, caption=caption, metadata=metadata))

    def update(
        self,
        keys: Annotated[Keys, Field(min_length=1, description="Keys of items.")],
        metadata: Metadata = None,
        remove: Annotated[Names | None, Field(description="Names to take out of the metadata.")] = None,
        caption: Annotated[Words | None, Field(description="A new caption; an empty one removes it.")] = None,
    ) -> Annotated[CallToolResult, forms.Changed]:
        """Change the metadata of items name by name, or their caption; what is not named stays."""
        changed = self._engine.update(keys, metadata=metadata, remove=remove or (), caption=caption)
        return forms.to_result({"items": changed})

    def delete(
        self, keys: Annotated[Keys, Field(min_length=1, description="Keys of items.")]
    ) -> Annotated[CallToolResult, forms.Changed]:
        """Take items out of the library. What was added is erased; files stay on the disk."""
        return forms.to_result({"items": self._engine.delete(keys)})

    def _add(self, record: Record) -> CallToolResult:
        report = self._engine.add([record], keep="thumbnail")
        for _, reason in report.failed:
            raise InvalidInputError(reason)
        return forms.to_result({"added": report.added, "replaced": report.replaced, "unchanged": report.unchanged})
