"""What requests over HTTP and MCP have in common: filters, metadata, and their limits, with their descriptions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from clipsearch.dates import parse_period
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter

MAX_TEXT, MAX_KEY, MAX_KEYS = 4000, 4096, 100

Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY)]
Keys = Annotated[list[Key], Field(max_length=MAX_KEYS)]
Words = Annotated[str, Field(max_length=MAX_TEXT)]
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
        default=None,
        max_length=MAX_KEYS,
        description="Conditions on metadata, by name: a value, a list of values any of which may hold, or an object of "
        'comparisons: {"price": {"lt": 20}, "brand": ["acme", "zoo"], "sold": false}. Comparisons are eq, ne, lt, le, '
        "gt, ge, in, nin, contains and exists.",
    )
    tags: Names = Field(default=[], description="Whole tags.")
    collections: Names = Field(default=[], description="Names of collections that the items are in.")
    caption: Words | None = Field(
        default=None, description='Words that the caption or text has: all of them, or "a phrase".'
    )
    types: Names = Field(default=[], description="`image`, `text`, or endings of files such as `png`.")
    folders: Names = Field(default=[], description="Absolute paths of folders that the items lie in.")
    during: Words | None = Field(
        default=None, description="When a picture was taken: `2024`, `2024-06`, `2024-06-01`, `last summer`."
    )
    after: Words | None = Field(default=None, description="Taken at or after the beginning of this date.")
    before: Words | None = Field(default=None, description="Taken before the beginning of this date.")
    cameras: Names = Field(default=[], description="Parts of the names of cameras.")
    places: Names = Field(default=[], description="Names of countries, regions or cities that it was taken in.")
    near: Place | None = Field(default=None, description="Taken within a circle.")
    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = Field(
        default=None,
        description="Taken between south, west, north and east, in degrees; a west beyond the east lies across the "
        "date line.",
    )
    orientation: Literal["landscape", "portrait", "square"] | None = Field(default=None, description="Of a picture.")
    min_rating: int | None = Field(default=None, ge=1, le=5, description="Stars that a picture has at least.")
    color_labels: Names = Field(default=[], description="Color labels of XMP, such as `Red`, any of them.")
    min_width: int | None = Field(default=None, ge=0, description="Pixels.")
    min_height: int | None = Field(default=None, ge=0, description="Pixels.")

    def build(self) -> Filter:
        """Return the filter that they make. Raises InvalidInputError for a value that cannot be used."""
        return Filter(**self.conditions())

    def conditions(self) -> dict[str, Any]:
        """Return the arguments of that filter. Raises as `build` does."""
        given: dict[str, Any] = {
            name: value
            for name in ("where", "tags", "collections", "caption", "types", "folders", "cameras", "places",
                         "orientation", "color_labels")
            if (value := getattr(self, name))
        }  # fmt: skip
        sizes = ("min_width", "min_height", "min_rating")
        given |= {name: value for name in sizes if (value := getattr(self, name)) is not None}
        if self.near is not None:
            given["near"] = (self.near.latitude, self.near.longitude, self.near.km)
        if self.box is not None:
            given["box"] = self.box
        return given | self._times()

    def _times(self) -> dict[str, datetime]:
        now = datetime.now()
        if self.during and (self.after or self.before):
            raise InvalidInputError("A date is given by `during`, or by `after` and `before`, not by both.")
        if self.during:
            start, end = parse_period(self.during, now)
            return {"taken_from": start, "taken_until": end}
        times = {"taken_from": self.after, "taken_until": self.before}
        return {name: parse_period(value, now).start for name, value in times.items() if value}
