"""The options that say which items may be found, and the Filter they make together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import click

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import ORIENTATIONS, Filter
from clipsearch.where import parse_where

F = TypeVar("F", bound=Callable[..., Any])
Fields = dict[str, Any]


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
}
"""How two conditions of a kind become one; those of other kinds stand side by side."""


def _during(value: str, now: datetime) -> Fields:
    start, end = _period(value, now)
    return {"taken_from": start, "taken_until": end}


def _period(value: str, now: datetime) -> tuple[datetime, datetime]:
    from clipsearch.dates import parse_period

    return parse_period(value, now)


def _pixels(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise InvalidInputError(f"{value!r} is not a whole number of pixels. Write one, such as 1024.")
    return int(value[:20])


def _numbers(value: str, count: int, remedy: str) -> tuple[float, ...]:
    """Read numbers between commas."""
    parts = value.split(",")
    column = 1
    for part in parts:
        try:
            float(part)
        except ValueError:
            raise InvalidInputError(f"{part!r} at column {column} of {value!r} is not a number. {remedy}") from None
        column += len(part) + 1
    if len(parts) != count:
        raise InvalidInputError(f"{value!r} is not {'three' if count == 3 else 'four'} numbers. {remedy}")
    return tuple(map(float, parts))


_OPTIONS: dict[str, tuple[Callable[[str, datetime], Fields], str, str]] = {
    "--in": (
        lambda value, now: {"folders": (value,)},
        "FOLDER",
        "In this folder or below it. Of several folders, cameras, types, places, tags or collections, one must match; "
        "all other filters must match.",
    ),
    "--after": (
        lambda value, now: {"taken_from": _period(value, now)[0]},
        "DATE",
        "Taken at or after the beginning of DATE: 2024, 2024-06, 2024-06-01T12:00, 'last summer', '3 weeks ago'. Only "
        "dates written by a camera count; a file without one never matches.",
    ),
    "--before": (
        lambda value, now: {"taken_until": _period(value, now)[0]},
        "DATE",
        "Taken before the beginning of DATE.",
    ),
    "--on": (_during, "DATE", "Taken within DATE: a year, a season, a month, a week or a day."),
    "--camera": (
        lambda value, now: {"cameras": (value,)},
        "NAME",
        "Taken with this camera; part of the name is enough.",
    ),
    "--type": (
        lambda value, now: {"types": tuple(kind.strip() for kind in value.split(","))},
        "TYPE",
        "image, text, or a file extension such as jpeg, png, heic or txt. Separate several with commas.",
    ),
    "--min-width": (lambda value, now: {"min_width": _pixels(value)}, "PIXELS", "At least this wide."),
    "--min-height": (lambda value, now: {"min_height": _pixels(value)}, "PIXELS", "At least this high."),
    "--orientation": (
        lambda value, now: {"orientation": value},
        "|".join(ORIENTATIONS),
        "Wider than high, higher than wide, or square.",
    ),
    "--near": (
        lambda value, now: {"near": _numbers(value, 3, "Write LATITUDE,LONGITUDE,KM: 48.86,2.35,20.")},
        "LAT,LON,KM",
        "Taken within KM kilometres of a place given in degrees: 48.86,2.35,20.",
    ),
    "--box": (
        lambda value, now: {"box": _numbers(value, 4, "Write SOUTH,WEST,NORTH,EAST: 47.8,5.9,54.9,15.0.")},
        "S,W,N,E",
        "Taken between these degrees: south, west, north and east. A west beyond the east lies across the date line.",
    ),
    "--place": (
        lambda value, now: {"places": (value,)},
        "NAME",
        "Taken in this country, region or city: Spain, Bavaria, Kyoto. `clipsearch index` finds their names by the GPS "
        "of pictures, with the extra places.",
    ),
    "--caption": (
        lambda value, now: {"caption": value},
        "WORDS",
        "With all these words in the caption or the text. Also a phrase, '\"on the beach\"', or a beginning, 'dog*'.",
    ),
    "--tag": (lambda value, now: {"tags": (value,)}, "NAME", "With exactly this tag; see `clipsearch tags`."),
    "--collection": (
        lambda value, now: {"collections": (value,)},
        "NAME",
        "In this collection; see `clipsearch collections`.",
    ),
    "--where": (
        lambda value, now: {"where": parse_where(value)},
        "CONDITION",
        "With metadata that meets this: 'price<20', brand=acme, 'brand=[\"acme\",\"zoo\"]', title~beach; or a name "
        "alone, for any value. Operators: = != < <= > >= ~ (contains).",
    ),
}
"""Each filter option: how it is read, and what the help says."""
