"""Options that several commands share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from clipsearch.config import Settings, library_path, load_settings

F = TypeVar("F", bound=Callable[..., Any])


def library_option(command: F) -> F:
    """Add --library."""
    return click.option(
        "--library",
        metavar="DIR",
        help="The library to use. Else $CLIPSEARCH_LIBRARY, the nearest .clipsearch/ folder here or above, "
        "or the one in your data folder.",
    )(command)


def json_option(command: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def collapse_option(command: F) -> F:
    """Add --collapse."""
    return click.option("--collapse", is_flag=True, help="Show copies and bursts of pictures once.")(command)


def read_settings(**flags: object) -> tuple[Settings, Path]:
    """Read the settings with these flags on top; return them and the library's folder."""
    settings = load_settings(flags)
    return settings, library_path(settings.library)


def write_bytes(data: bytes) -> None:
    """Write results to stdout; nowhere if it was closed before we started."""
    if sys.stdout is not None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def count_files(count: int) -> str:
    """Say how many files."""
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def note(message: str) -> None:
    """Write a remark to stderr, above a progress bar where there is one."""
    if sys.stderr is not None:
        # A remark that nobody can read must not stop the work.
        with contextlib.suppress(OSError):
            # Not click.echo, which looks past the stream that a progress bar puts in the place of stderr.
            sys.stderr.write(message + "\n")
            sys.stderr.flush()
