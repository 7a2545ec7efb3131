"""What the routes that change the library take and return."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from clipsearch.forms import MAX_KEYS, Keys, Metadata, Names
from clipsearch.server.forms import Filters, Id, Vector

MAX_RECORDS, MAX_RECORD_TEXT, MAX_CAPTION = 1000, 1_000_000, 100_000

Keep = Annotated[
    Literal["thumbnail", "bytes"] | None,
    Field(description="What is kept of pictures beside their vectors: a thumbnail, the file, or nothing."),
]
RecordId = Annotated[str, Field(min_length=1, max_length=500, description="Yours; what has it already is replaced.")]
Caption = Annotated[str, Field(max_length=MAX_CAPTION, description="What is said of it.")]
Ids = Annotated[list[Id], Field(max_length=MAX_KEYS)]


FormKeep = Annotated[
    Literal["thumbnail", "bytes", "null"],
    Field(description="What is kept of the picture beside its vector: a thumbnail, the file, or with `null` nothing."),
]


class RecordForm(BaseModel):
    """A record: a picture, a text, a caption, a vector, or several of these together."""

    model_config = ConfigDict(extra="forbid")

    id: RecordId
    image: str | None = Field(
        None,
        min_length=1,
        description="The file of a picture as a `data:` URL in base64; a URL to fetch only where the server allows.",
    )
    text: str | None = Field(None, max_length=MAX_RECORD_TEXT, description="It is found by its passages.")
    caption: Caption | None = None
    metadata: Metadata = None
    vector: Vector | None = Field(
        None, description="Made elsewhere with the library's encoder; it stands for the picture."
    )
    modality: Literal["image", "text"] | None = Field(
        None, description="What `vector` was made from, where that is no picture or text of this record."
    )


_RECORDS: list[JsonValue] = [
    {
        "records": [
            {"id": "sku-18", "text": "A blue mug that holds half a litre.", "metadata": {"price": 9.0, "sold": True}},
            {"id": "sku-17", "image": "data:image/jpeg;base64,/9j/4AAQSkZJRg...", "caption": "a mug with a cat"},
        ]
    }
]


class RecordsRequest(BaseModel):
    """Records to add."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": _RECORDS})

    records: Annotated[list[RecordForm], Field(min_length=1, max_length=MAX_RECORDS)]
    keep: Keep = "thumbnail"


class FailedRecord(BaseModel):
    """A record that was not added; what the library had under its id stays."""

    id: str
    reason: str


class RecordsAdded(BaseModel):
    """What became of the records."""

    added: int
    replaced: int
    unchanged: int
    failed: list[FailedRecord]
    seconds: float


class ChangeRequest(BaseModel):
    """What to say of items from now on; what is not named stays."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"keys": ["sku-18"], "metadata": {"sold": False}, "remove": ["price"]}]},
    )

    keys: Keys = Field(default=[], description="Keys of items.")
    ids: Ids = Field(default=[], description="Ids of items.")
    metadata: Metadata = None
    remove: Names = Field(default=[], description="Names to take out of the metadata.")
    caption: Caption | None = Field(None, description="A new caption; an empty one removes it.")


class Changed(BaseModel):
    """How many items were changed, or deleted."""

    items: int


class DeleteRequest(BaseModel):
    """Which items to delete."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"filters": {"where": {"sold": True}, "before": "2020"}}]}
    )

    filters: Filters = Field(description="Those that the filters allow; at least one condition.")
