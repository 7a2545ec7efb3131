"""What the routes of saved searches take and return."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from clipsearch.server import answers, forms
from clipsearch.words import MAX_NAME

SearchName = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME, description="Compared without case; no control characters.")
]


class NewSearch(forms.Search):
    """A search to save: what `/v1/search` takes. Dates in words are read each time that it runs."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "a beach", "k": 50, "filters": {"during": "last month"}}]}
    )

    shown: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="The query as it is shown, of a picture or a vector."
    )


class SavedSearchView(BaseModel):
    """A saved search."""

    name: str
    query: str = Field(description="As it is shown.")
    options: dict[str, Any] = Field(description="Those that are not at their defaults.")
    saved_at: str = Field(description="ISO 8601, in UTC.")


class SavedRun(BaseModel):
    """How a saved search is to run."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"new": True}]})

    new: bool = Field(
        default=False,
        description="Only matches of at least 0.5 that came, or changed, since the `mark` of the search.",
    )
    k: forms.Count | None = Field(default=None, description="Null for what was saved.")
    offset: forms.Offset | None = Field(default=None, description="Null for what was saved. Not with `new`.")
    whole: forms.Whole = False


class SavedSearchAnswer(answers.Answer):
    """A ranked answer of a saved search."""

    k: int = Field(description="How many hits were asked for.")
    offset: int = Field(description="How many hits were passed over.")
    mark: str | None = Field(description="For `/seen`, once what is new was taken note of; null without `new`.")


class SeenMark(BaseModel):
    """Up to where the matches of a search were seen."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"mark": '{"saved_at":"...","mark":{}}'}]}
    )

    mark: Annotated[str, Field(max_length=1 << 18)] = Field(description="What an answer with `new` has.")
