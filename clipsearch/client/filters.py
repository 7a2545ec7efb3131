"""Filters as requests have them: what `clipsearch.server.forms.Filters` builds the same filter of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipsearch.filtering import Filter, absolute, to_values
from clipsearch.query.options import check_filters

_COMBINED = ("all_of", "any_of", "none_of")


def to_form(wanted: Filter | None) -> dict[str, Any] | None:
    """Return a filter as JSON; None for None.

    Folders are those of the server; relative ones are taken from the current folder here. Raises InvalidInputError for
    anything but a filter.
    """
    check_filters(wanted)
    return None if wanted is None else _form(to_values(absolute(wanted)))


def _form(values: Mapping[str, Any]) -> dict[str, Any]:
    form = dict(values)
    if "near" in form:
        form["near"] = dict(zip(("latitude", "longitude", "km"), form["near"], strict=True))
    for name in _COMBINED:
        if name in form:
            form[name] = [_form(part) for part in form[name]]
    if form.get("ids") == []:  # which a request has for no condition: what not everything allows is nothing
        del form["ids"]
        form["none_of"] = [*form.get("none_of", ()), {}]
    return form
