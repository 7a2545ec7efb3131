"""The options that say which items may be found, and the Filter they make together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import ORIENTATIONS, Filter

if TYPE_CHECKING:
    from clipsearch.client.client import Client
    from clipsearch.query.joint.engine import JointEngine

F = TypeVar("F", bound=Callable[..., Any])
Fields = dict[str, Any]

_LISTED = f"{__name__}.listed"
"""Where the context of a command has what lists named."""


class _Written(NamedTuple):
    """A filter option as it stands on the command line; argument: where, from 1."""

    option: str
    value: str
    is_negated: bool
    argument: int


class FilteringCommand(click.Command):
    """A command with filter options, which keep the order they were written in: `--not` is about the one after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as any command does, and note the order."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        ctx.meta[__name__] = ([each.opts[0] for each in order if isinstance(each, click.Option)], list(args))
        return super().parse_args(ctx, args)


def filter_options(command: F) -> F:
    """Add the filter options to a FilteringCommand, which is given what they make as `filters`; None without any."""

    @functools.wraps(command)
    def run(**values: Any) -> Any:  # noqa: ANN401
        given = {option: iter(values.pop(_name(option))) for option in _OPTIONS}
        del values["negate"]
        return command(filters=_build(_written(click.get_current_context(), given)), **values)

    negate = click.option(
        "--not", "negate", is_flag=True, multiple=True, help="Reverse the filter that follows: --not --camera Canon."
    )
    decorated = negate(run)
    for option, (_, metavar, text) in reversed(_OPTIONS.items()):
        decorated = click.option(option, _name(option), multiple=True, metavar=metavar, help=text)(decorated)
    return decorated  # type: ignore[return-value]


def _name(option: str) -> str:
    return "filter_" + option[2:].replace("-", "_")


def _written(ctx: click.Context, given: dict[str, Iterator[str]]) -> Iterator[_Written]:
    order, args = ctx.meta[__name__]
    is_negated = False
    seen = 0
    for option in order:
        if option in given:
            value = next(given[option])
            seen = _find(args, seen, option, value)
            yield _Written(option, value, is_negated, seen + 1)
        elif is_negated:
            break
        is_negated = option == "--not"
    if is_negated:
        raise InvalidInputError(
            "There is no filter after --not. Put it before the filter that it reverses: --not --camera Canon."
        )


def _find(args: Sequence[str], start: int, option: str, value: str) -> int:
    """Return which argument an option is, at or after another one."""
    written = (
        i for i in range(start, len(args)) if args[i : i + 2] == [option, value] or args[i] == f"{option}={value}"
    )
    return next(written, start)


def _build(written: Iterator[_Written]) -> Filter | None:
    """Put conditions together: any of several folders, cameras, types, places, tags, collections; all of the rest."""
    now = datetime.now()
    together: Fields = {}
    more: dict[str, list[Filter]] = {"all_of": [], "none_of": []}
    for each in written:
        try:
            fields = _OPTIONS[each.option][0](each.value, now)
            alone = Filter(**fields)
        except InvalidInputError as error:
            where = f"{each.option} {each.value!r}, argument {each.argument}"
            raise InvalidInputError(f"{error} This is about {where}.") from error
        if each.is_negated:
            more["none_of"].append(alone)
        elif any(name in together and name not in _JOINED for name in fields):
            more["all_of"].append(alone)
        else:
            together |= {n: _JOINED[n](together[n], v) if n in together else v for n, v in fields.items()}
    wanted = Filter(**together, all_of=tuple(more["all_of"]), none_of=tuple(more["none_of"]))
    if wanted == Filter():
        return None
    from clipsearch.filtering import absolute

    return absolute(wanted)


_JOINED: dict[str, Callable[[Any, Any], Any]] = {
    "folders": lambda one, other: one + other,
    "cameras": lambda one, other: one + other,
    "types": lambda one, other: one + other,
    "places": lambda one, other: one + other,
    "tags": lambda one, other: one + other,
    "collections": lambda one, other: one + other,
    "taken_from": max,
    "taken_until": min,
    "min_width": max,
    "min_height": max,
    "min_rating": max,
    "color_labels": lambda one, other: one + other,
}
"""How two conditions of a kind become one; those of other kinds stand side by side."""


def _listed(source: str) -> Fields:
    from clipsearch.cli.path_lists import read_keys

    named = read_keys(source)
    click.get_current_context().meta.setdefault(_LISTED, {}).update(named)
    keys = tuple(dict.fromkeys(key for each in named.values() for key in each))
    return {"keys": keys} if keys else {"ids": frozenset()}


def note_unknown_paths(server: Client | JointEngine | None, library: str | None) -> None:
    """Say on stderr which paths of --paths-from no item has. library: as the option names it."""
    named = click.get_current_context().meta.get(_LISTED)
    if named:
        from clipsearch.cli.path_lists import note_unknown

        note_unknown(named, server, library)


def _read_as(name: str) -> Callable[[str, datetime], Fields]:
    """Return what reads a filter that queries have as a term too; it is loaded where there is one."""

    def read(value: str, now: datetime) -> Fields:
        from clipsearch.query.filter_readers import READERS

        return READERS[name](value, now)

    return read


_OPTIONS: dict[str, tuple[Callable[[str, datetime], Fields], str, str]] = {
    "--in": (
        _read_as("in"),
        "FOLDER",
        "In this folder or below it. Of several folders, cameras, types, places, tags or collections, one must match; "
        "all other filters must match.",
    ),
    "--after": (
        _read_as("after"),
        "DATE",
        "Taken at or after the beginning of DATE: 2024, 2024-06, 2024-06-01T12:00, 'last summer', '3 weeks ago'. Only "
        "dates written by a camera count; a file without one never matches.",
    ),
    "--before": (
        _read_as("before"),
        "DATE",
        "Taken before the beginning of DATE.",
    ),
    "--on": (_read_as("on"), "DATE", "Taken within DATE: a year, a season, a month, a week or a day."),
    "--camera": (
        _read_as("camera"),
        "NAME",
        "Taken with this camera; part of the name is enough.",
    ),
    "--type": (
        _read_as("type"),
        "TYPE",
        "image, text, film, document, or a file extension such as jpeg or heic. Separate several with commas.",
    ),
    "--min-width": (_read_as("min-width"), "PIXELS", "At least this wide."),
    "--min-height": (_read_as("min-height"), "PIXELS", "At least this high."),
    "--orientation": (
        _read_as("orientation"),
        "|".join(ORIENTATIONS),
        "Wider than high, higher than wide, or square.",
    ),
    "--min-rating": (
        _read_as("min-rating"),
        "STARS",
        "A rating of at least STARS, from 1 to 5, in the picture or its XMP sidecar.",
    ),
    "--color-label": (
        _read_as("color-label"),
        "COLOR",
        "With this color label of XMP, such as Red; of several, one must match.",
    ),
    "--near": (
        _read_as("near"),
        "LAT,LON,KM",
        "Taken within KM kilometres of a place given in degrees: 48.86,2.35,20.",
    ),
    "--box": (
        _read_as("box"),
        "S,W,N,E",
        "Taken between these degrees: south, west, north and east. A west beyond the east lies across the date line.",
    ),
    "--place": (
        _read_as("place"),
        "NAME",
        "Taken in this country, region or city: Spain, Bavaria, Kyoto. `clipsearch index` finds their names by the GPS "
        "of pictures, with the extra places.",
    ),
    "--caption": (
        _read_as("caption"),
        "WORDS",
        "With all these words in the caption or the text. Also a phrase, '\"on the beach\"', or a beginning, 'dog*'.",
    ),
    "--tag": (_read_as("tag"), "NAME", "With exactly this tag; see `clipsearch tags`."),
    "--collection": (
        _read_as("collection"),
        "NAME",
        "In this collection; see `clipsearch collections`.",
    ),
    "--paths-from": (
        lambda value, now: _listed(value),
        "FILE|-",
        "Named in this file, or on stdin for -: paths or ids of records, one per line or each followed by NUL.",
    ),
    "--where": (
        _read_as("where"),
        "CONDITION",
        "With metadata that meets this: 'price<20', brand=acme, 'brand=[\"acme\",\"zoo\"]', title~beach; or a name "
        "alone, for any value. Operators: = != < <= > >= ~ (contains).",
    ),
}
"""Each filter option: how it is read, and what the help says."""
