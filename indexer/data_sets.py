"""The data sets of a run: those that are named, or all that a library has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.store.library import Library
from clipsearch.store.reading import CATALOG
from clipsearch.store.records import RootKind
from clipsearch.store.roots import get_roots
from clipsearch.store.writer import Writer
from indexer.dataset import DataSetOptions, DataSetRun, UnreachableError, from_json, open_data_set
from indexer.executed import execute
from indexer.report import IndexReport
from indexer.sources.registry import SourceOptions, canonical, is_source, open_source


def split_paths(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the folders and files of what was named, and the addresses of data sets, each once."""
    named = {path for path in paths if is_source(path) and not os.path.isdir(path)}
    addresses = dict.fromkeys(canonical(path) for path in paths if path in named)
    return [path for path in paths if path not in named], list(addresses)


@dataclass(frozen=True, slots=True)
class OptionsChange:
    """What is said of how data sets are read; None keeps what the library says of each, or else the defaults."""

    columns: tuple[tuple[str, str], ...] | None = None
    pictures: str | None = None
    fetch_urls: bool | None = None

    def apply(self, options: SourceOptions) -> SourceOptions:
        """Return options with what is said."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(options, **{name: value for name, value in given.items() if value is not None})


def make_options(columns: Iterable[str], pictures: str | None, fetch_urls: bool | None) -> OptionsChange:
    """Read options as they are written; columns: ROLE=COLUMN, several of them separated by commas.

    Raises InvalidInputError for what cannot be used.
    """
    named: list[tuple[str, str]] = []
    for part in (each for written in columns for each in written.split(",")):
        role, _, column = part.partition("=")
        named.append((role.strip(), column.strip()))
    if pictures is not None and not os.path.isdir(pictures):
        raise InvalidInputError(f"There is no folder {pictures}. Name the folder of the pictures in tables.")
    folder = None if pictures is None else os.path.realpath(pictures)
    change = OptionsChange(tuple(named) or None, folder, fetch_urls)
    change.apply(SourceOptions()).check()
    return change


def check_addresses(folder: Path, addresses: Sequence[str], change: OptionsChange) -> None:
    """Raise InvalidInputError for a data set that neither can be reached nor is known to the library."""
    known: set[str] = set()
    if addresses and (folder / CATALOG).exists():
        with closing(Library(folder)) as library, library.query() as connection:
            known = {root.path for root in get_roots(connection, library.base) if root.kind is RootKind.SOURCE}
    for address in addresses:
        source = open_source(address, change.apply(SourceOptions()))
        if address not in known:
            next(source.shards(), None)


def update_data_sets(
    library: Library,
    writer: Writer,
    settings: Settings,
    addresses: Sequence[str],
    change: OptionsChange,
    report: IndexReport,
    how: DataSetOptions,
) -> None:
    """Bring data sets up to date and add to the report what that was; without addresses, all that the library has.

    change: how they are read, now and from now on. One that cannot be reached is
    offline: nothing of it is removed.
    """
    known = {root.path: root for root in writer.roots(library.base, RootKind.SOURCE)}
    for address in addresses or known:
        if how.should_stop():
            return
        root = known.get(address)
        kept = from_json(root.options) if root is not None else SourceOptions()
        is_offline = False
        try:
            data_set = open_data_set(writer, library.base, address, change.apply(kept))
            if how.executor is None:
                DataSetRun(library, writer, settings, data_set, how).run(report)
            else:
                pin = library.encoder
                assert pin is not None, "a library is pinned before anything is added"
                execute(writer, data_set, pin, settings, how.executor, how, report)
        except (UnreachableError, InvalidInputError) as error:
            if root is None or (addresses and not isinstance(error, UnreachableError)):
                raise
            is_offline = True
            report.offline.append(address)
        if root is not None and root.offline != is_offline:
            writer.set_offline(root.id, is_offline)
