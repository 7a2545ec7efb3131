"""What the route of embeddings takes and returns: the shapes of OpenAI's API, and pictures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

MAX_INPUTS, MAX_PICTURES = 2048, 64
"""Inputs of a request, and pictures among them."""

MAX_INPUT_TEXT, MAX_ALL_TEXT = 32_768, 262_144
"""Characters of an input, and of all of a request."""

InputText = Annotated[str, Field(min_length=1, max_length=MAX_INPUT_TEXT)]


class TextInput(BaseModel):
    """A text, where others are pictures."""

    model_config = ConfigDict(extra="forbid")

    text: InputText


class PictureInput(BaseModel):
    """A picture; no part of OpenAI's API."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(min_length=1, description="The file of a picture as a `data:` URL in base64.")


Input = InputText | TextInput | PictureInput

_EXAMPLES: list[JsonValue] = [
    {"input": "a cat on a sofa", "model": "builtin-base"},
    {"input": ["a cat", {"image": "data:image/jpeg;base64,/9j/4AAQSkZJRg..."}], "encoding_format": "base64"},
]


class EmbeddingsRequest(BaseModel):
    """Texts and pictures to embed. `kind` is no part of OpenAI's API; fields of it that are not here are ignored."""

    model_config = ConfigDict(json_schema_extra={"examples": _EXAMPLES})

    input: InputText | Annotated[list[Input], Field(min_length=1, max_length=MAX_INPUTS)] = Field(
        description="A text, or a list of texts and pictures. Lists of tokens are not taken: tokenizers differ."
    )
    model: str | None = Field(
        None, max_length=500, description="The encoder of the library, which GET /v1/stats names; it may be left out."
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: of float32 numbers, the least significant byte first."
    )
    dimensions: int | None = Field(None, description="That of the encoder; no other can be had.")
    kind: Literal["document", "query"] = Field(
        "document", description="What texts are embedded as: what is found, or what is looked for."
    )


class Embedding(BaseModel):
    """The vector of one input, of unit length."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(description="Place of the input, from 0.")
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens of the texts; a picture has none."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage
