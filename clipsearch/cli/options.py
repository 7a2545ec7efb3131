"""Options that several commands share."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from clipsearch.cli.streams import to_stdout
from clipsearch.config import Settings, load_settings
from clipsearch.errors import InvalidInputError
from clipsearch.locations import library_path

SORTS = ("relevance", "taken", "name", "size", "rating")
"""As `clipsearch.sorting` has them, which a query need not import."""

F = TypeVar("F", bound=Callable[..., Any])


def library_option(command: F) -> F:
    """Add --library."""
    return click.option(
        "--library",
        metavar="DIR",
        help="The library to use. Default: $CLIPSEARCH_LIBRARY, else the nearest .clipsearch/ folder here or above, "
        "else the one in your data folder.",
    )(command)


def json_option(command: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def shape_options(command: F) -> F:
    """Add --json, --paths and --print0; `read_shape` reads them."""
    command = click.option("-0", "--print0", is_flag=True, help="Print paths only, each followed by NUL.")(command)
    command = click.option("--paths", is_flag=True, help="Print paths only, one per line.")(command)
    return json_option(command)


def format_option(command: F) -> F:
    """Add --format."""
    line = "Print a line for each as this says: '{path}\\t{taken_at}'. With -0, NUL ends it."
    return click.option("--format", "template", metavar="TEMPLATE", help=line)(command)


def read_shape(as_json: bool, paths: bool, print0: bool, template: str | None = None) -> str:
    """Return the shape that is asked for: `table`, `json`, `paths`, `print0`, or of a template `lines` or `print0`."""
    if template is not None:
        if as_json or paths:
            raise InvalidInputError("--format says all that is printed. Use it without --json and --paths.")
        return "print0" if print0 else "lines"
    if as_json + paths + print0 > 1:
        raise InvalidInputError("Only one of --json, --paths and --print0 can be used.")
    return "json" if as_json else "paths" if paths else "print0" if print0 else "table"


def fail_option(command: F) -> F:
    """Add --fail-if-none."""
    text = "Exit with code 1 if there is no confident match."
    return click.option("--fail-if-none", is_flag=True, help=text)(command)


def current_folder() -> str:
    """Return the current folder, for paths that are shown short."""
    try:
        return os.getcwd()
    except OSError:  # it is gone, and nothing lies below it
        return os.curdir


def match_options(command: F) -> F:
    """Add -k, --offset and --modality."""
    command = click.option(
        "--modality",
        type=click.Choice(["image", "text", "any"]),
        default="any",
        show_default=True,
        help="The kind of matches.",
    )(command)
    passed = click.IntRange(min=0)
    command = click.option("--offset", default=0, type=passed, metavar="N", help="Pass over the first N.")(command)
    count = click.IntRange(min=1)
    return click.option("-k", default=10, show_default=True, type=count, help="How many matches to show.")(command)


def collapse_option(command: F) -> F:
    """Add --collapse."""
    return click.option("--collapse", is_flag=True, help="Show copies of a picture, and bursts, once.")(command)


def crop_option(command: F) -> F:
    """Add --crop."""
    text = "Only this part of the picture: shares from 0 to 1, or pixels with px at the end."
    return click.option("--crop", metavar="X,Y,W,H", help=text)(command)


def order_options(command: F) -> F:
    """Add --sort, --diverse, --group and --explain."""
    why = "Say of each match why it stands where it does."
    command = click.option("--explain", is_flag=True, help=why)(group_option(command))
    command = click.option("--diverse", is_flag=True, help="Put matches first that are unlike those before them.")(
        command
    )
    return click.option(
        "--sort",
        type=click.Choice(SORTS),
        default=SORTS[0],
        show_default=True,
        help="Sort the matches of 50 % and more by this, and leave out the others.",
    )(command)


def group_option(command: F) -> F:
    """Add --group."""
    days = "Put what was taken on a day together, below its date."
    return click.option("--group", type=click.Choice(["day"]), help=days)(command)


def cutoff_options(command: F) -> F:
    """Add --min-confidence, --min-score and --cut."""
    command = click.option("--cut", is_flag=True, help="End the answer at the gap in the scores.")(command)
    least = "Leave out matches with a lower {}, {}."
    score = least.format("score", "from -1 to 1")
    command = click.option("--min-score", type=float, metavar="S", help=score)(command)
    confidence = least.format("confidence", "from 0 to 1")
    return click.option("--min-confidence", type=float, metavar="C", help=confidence)(command)


def search_options(command: F) -> F:
    """Give a command the values of its options that are options of a search as one argument, `options`."""

    @wraps(command)
    def collected(**given: Any) -> Any:  # noqa: ANN401
        from clipsearch.query.options import SearchOptions

        names = [each.name for each in fields(SearchOptions) if each.name in given]
        return command(options=SearchOptions(**{name: given.pop(name) for name in names}), **given)

    return collected  # type: ignore[return-value]


def read_settings(**flags: object) -> tuple[Settings, Path]:
    """Read the settings with these flags on top; return them and the library's folder."""
    settings = load_settings(flags)
    return settings, library_path(settings.library)


def write_bytes(data: bytes) -> None:
    """Write results, as text in UTF-8, to stdout; nowhere if it was closed before we started."""
    to_stdout(data)


def write_line(line: str) -> None:
    """Write a line of results. Not by click.echo, which takes an ASCII stdout for a mistake and writes UTF-8 to it."""
    write_bytes(f"{line}\n".encode("utf-8", "backslashreplace"))


def write_shaped(data: bytes, shape: str) -> None:
    """Write results to stdout; paths as they are, but escaped if they could steer a terminal that shows them."""
    if shape in ("paths", "lines") and sys.stdout is not None and sys.stdout.isatty():
        from clipsearch.paths import printable

        kept = "\t\n" if shape == "lines" else "\n"
        text = "".join(each if each in kept else printable(each) for each in os.fsdecode(data))
        data = text.encode("utf-8", "backslashreplace")
    elif shape in ("paths", "lines", "print0"):
        if sys.stdout is not None and data:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return
    write_bytes(data)


def count_files(count: int) -> str:
    """Say how many files."""
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def note(message: str) -> None:
    """Write a remark to stderr, above a progress bar if there is one."""
    if sys.stderr is not None:
        # A remark that nobody can read must not stop the work.
        with contextlib.suppress(OSError):
            # Not click.echo, which looks past the stream that a progress bar puts in the place of stderr.
            sys.stderr.write(message + "\n")
            sys.stderr.flush()
