"""What requests of the HTTP API say, as pydantic models with their descriptions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clipsearch import forms
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.forms import Key, Keys, Names, Words
from clipsearch.query.reading import MAX_CELLS
from clipsearch.where import parse_where

MAX_HITS, MAX_OFFSET, MAX_ID, MAX_DIM = 1000, 100_000, 2**63 - 1, 8192
MAX_PIXELS = 1_000_000_000
MAX_FILTER_KEYS = 10_000
"""Keys of a filter, such as a list of files: more than one looks up by hand, and less than a body of MAX_BODY holds."""

Count = Annotated[int, Field(ge=1, le=MAX_HITS, description="How many to return at most.")]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET, description="How many of the first to pass over.")]
Id = Annotated[int, Field(ge=1, le=MAX_ID, description="The id of an item.")]
Kind = Annotated[Literal["image", "text", "any"], Field(description="What may match: a picture, words, or both.")]
Side = Annotated[int, Field(ge=0, le=MAX_PIXELS, description="Pixels.")]
Vector = Annotated[list[float], Field(min_length=1, max_length=MAX_DIM)]
Confidence = Annotated[float | None, Field(ge=0, le=1, description="Leave out hits of lower confidence.")]
Fusion = Annotated[
    Literal["auto", "decision", "feature", "rank"], Field(description="How the terms of a query are combined.")
]
Whole = Annotated[
    bool,
    Field(description="All that is known: captions and texts are not cut, scores are not rounded."),
]
Suggest = Annotated[
    bool, Field(description="Say in `suggestions`, where nothing is confident, what else would find something.")
]
Group = Annotated[
    Literal["day"] | None, Field(description="Put what was taken on a day together: `groups` in the answer.")
]
Moment = Annotated[str, Field(min_length=10, max_length=32)]
Cursor = Annotated[str, Field(max_length=64, description="What the page before gave.")]
Part = Annotated[
    str | None,
    Field(
        max_length=100,
        description="The part to search by, `X,Y,WIDTH,HEIGHT`: shares from 0 to 1, or pixels with `px` at the end.",
    ),
]
Score = Annotated[float | None, Field(ge=-1, le=1, description="Leave out hits of lower cosine.")]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Filters(forms.Filters):
    """Which items may be found. All that is given must hold; of several values of one list, any."""

    ids: Annotated[list[Id], Field(max_length=MAX_HITS)] = Field(default=[], description="Ids of items.")
    keys: Annotated[list[Key], Field(max_length=MAX_FILTER_KEYS)] = Field(default=[], description="Keys of items.")
    min_width: Side | None = None
    min_height: Side | None = None
    taken_from: Moment | None = Field(default=None, description="Taken at this local time or later: ISO 8601.")
    taken_until: Moment | None = Field(default=None, description="Taken before this local time: ISO 8601.")
    all_of: list[Filters] = Field(default=[], max_length=32, description="Filters that must all hold.")
    any_of: list[Filters] = Field(default=[], max_length=32, description="Filters of which one must hold.")
    none_of: list[Filters] = Field(default=[], max_length=32, description="Filters of which none may hold.")

    def conditions(self) -> dict[str, Any]:
        """Return the arguments of the filter that they make. Raises InvalidInputError."""
        given = super().conditions()
        if self.ids:
            given["ids"] = self.ids
        if self.keys:
            given["keys"] = self.keys
        for name in ("taken_from", "taken_until"):
            if (written := getattr(self, name)) is not None:
                given[name] = self._read_moment(name, written)
        for name in ("all_of", "any_of", "none_of"):
            if parts := getattr(self, name):
                given[name] = [part.build() for part in parts]
        return given

    def _read_moment(self, name: str, written: str) -> datetime:
        if self.during or self.after or self.before:
            raise InvalidInputError(f"A date is given by `during`, `after` and `before`, or by `{name}`, not by both.")
        try:
            return datetime.fromisoformat(written)
        except ValueError:
            raise InvalidInputError(f"{name} is {written!r}, but must be such as 2024-06-01T12:30:00.") from None


class QueryFilters(_Closed):
    """Filters in a query string; a list has its name several times."""

    where: Names = Field(default=[], description="Conditions on metadata: `price<20`, `brand=acme`, `title~beach`.")
    tag: Names = Field(default=[], description="Whole tags, any of them.")
    collection: Names = Field(default=[], description="Names of collections, any of them.")
    type: Names = Field(default=[], description="`image`, `text`, or endings of files such as `png`, any of them.")
    folder: Names = Field(default=[], description="Absolute paths of folders that the items lie in, any of them.")
    camera: Names = Field(default=[], description="Parts of the names of cameras, any of them.")
    place: Names = Field(default=[], description="Names of countries, regions or cities, any of them.")
    caption: Words | None = Field(default=None, description="Words that the caption or text has.")
    during: Words | None = Field(default=None, description="When it was taken: `2024`, `2024-06`, `2024-06-01`.")
    after: Words | None = Field(default=None, description="Taken at or after the beginning of this date.")
    before: Words | None = Field(default=None, description="Taken before the beginning of this date.")

    def build(self) -> Filter | None:
        """Return the filter that they make; None if it allows all. Raises InvalidInputError."""
        filters = Filters(
            tags=self.tag, collections=self.collection, types=self.type, folders=self.folder, cameras=self.camera,
            places=self.place, caption=self.caption, during=self.during, after=self.after, before=self.before,
        )  # fmt: skip
        found = filters.build()
        for written in self.where:
            found = found & Filter(where=parse_where(written))
        return None if found == Filter() else found


class Options(_Closed):
    """What hits are wanted."""

    k: Count = 10
    offset: Offset = 0
    modality: Kind = "any"
    filters: Filters | None = None
    collapse: bool = Field(default=False, description="Show copies of a picture, and bursts, once.")
    cut: bool = Field(default=False, description="End the answer at the gap in the scores.")
    min_confidence: Confidence = None
    min_score: Score = None
    fusion: Fusion = "auto"
    suggest: Suggest = False
    sort: Annotated[
        Literal["relevance", "taken", "name", "size", "rating"],
        Field(description="Sort the hits of at least `min_confidence`, else of 0.5, by a value, and leave out others."),
    ] = "relevance"
    diverse: bool = Field(default=False, description="Put hits first that are unlike the ones before them.")
    explain: bool = Field(default=False, description="Say of each hit why it stands where it does: `explanation`.")
    group: Group = None
    whole: Whole = False
    crop: Part = None

    def keywords(self) -> dict[str, Any]:
        """Return the options of a search. Raises InvalidInputError for filters that cannot be used."""
        others = ("filters", "whole", "group")
        given = {name: getattr(self, name) for name in Options.model_fields if name not in others}
        return {**given, "filters": None if self.filters is None else self.filters.build()}


class Search(Options):
    """A search by one of `text`, `query`, `id`, `key`, `vector` and `image_url`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "a cat on a sofa", "k": 5}, {"query": '"horse" + 2:"stripes"'}]}
    )

    text: Words | None = Field(default=None, description="What to look for, in plain words.")
    query: Words | None = Field(
        default=None,
        description='Terms with weights: `"horse" + 2:"stripes" - "fence"`, or `id:17`; or with operators and filters: '
        '`("dog" or "cat") and not tag:"indoor"`.',
    )
    id: Id | None = Field(default=None, description="More like the item with this id.")
    key: Key | None = Field(default=None, description="More like the item with this key.")
    vector: Vector | None = Field(default=None, description="A vector of the length of those of the library.")
    kind: Literal["text", "image"] | None = Field(default=None, description="What `vector` was made from.")
    image_url: Words | None = Field(default=None, description="A picture by its URL, where the server allows that.")
    hybrid: bool = Field(default=True, description="Find items by their words as well, for a query by `text`.")
    understand: bool = Field(
        default=False,
        description="Lift dates, places, tags and cameras out of `text`; the answer then says what was `understood`.",
    )

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        names = ("text", "query", "id", "key", "vector", "image_url")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a search takes one of {', '.join(names)}, but {len(given)} were given")
        return self


class MatchOptions(_Closed):
    """How originals are looked for."""

    k: Count = 5
    crop: Part = None
    filters: Filters | None = None
    whole: Whole = False


class Understand(_Closed):
    """Words to understand."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "beach July 2023"}]})

    text: Words = Field(description="What to look for, in plain words.")


class Similar(Options):
    """Items whose like is wanted, and items whose like is not."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": [17], "unlike": [4], "k": 20}]})

    ids: Annotated[list[Id], Field(min_length=1, max_length=100)]
    unlike: Annotated[list[Id], Field(max_length=100)] = []


class Find(_Closed):
    """Which items to list, newest first or in another order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filters": {"during": "2024-06", "tags": ["beach"]}}]})

    filters: Filters | None = None
    limit: Count = 100
    offset: Offset = 0
    sort: Annotated[
        Literal["taken", "name", "size", "rating"],
        Field(description="What they are sorted by; the newest, largest or best rated first."),
    ] = "taken"
    group: Group = None
    whole: Whole = False


class ItemsOf(_Closed):
    """Which items to list, in order of their ids."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filters": {"types": ["png"]}, "limit": 10}]})

    filters: Filters | None = None
    cursor: Cursor | None = None
    limit: Count = 100
    whole: Whole = False


class ItemsToExport(_Closed):
    """Which items to export."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filters": {"tags": ["beach"]}}]})

    filters: Filters | None = Field(default=None, description="Without any, all items.")


class KeysOf(_Closed):
    """Items that are named by their keys."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"keys": ["sku-17", "/srv/photos/cat.jpg"]}]})

    keys: Keys


class VectorsOf(KeysOf):
    """Items whose vectors are wanted."""

    modality: Literal["image", "text"] | None = Field(
        default=None, description="Which vector of an item; null for its picture's, else its text's."
    )


class FacetsOf(_Closed):
    """Which items to count."""

    filters: Filters | None = None
    limit: Count = 100


class PlacesOf(_Closed):
    """Which items to show on a map."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filters": {"box": [34, 19, 42, 30]}, "cells": 24}]})

    filters: Filters | None = Field(default=None, description="With a `box`, that is what the map shows.")
    cells: Annotated[int, Field(ge=1, le=MAX_CELLS)] = Field(
        default=32, description="Clusters side by side at most, give or take one."
    )
