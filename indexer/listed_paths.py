"""Index what another program names path by path, such as `find`: a part at a time, so that a million need no more."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.paths import suffix
from clipsearch.store.library import Library
from clipsearch.store.reading import catalog_file
from clipsearch.store.roots import Rules, held_paths
from indexer.changed_paths import to_index
from indexer.pipeline import IndexOptions, KeptEncoder, index
from indexer.report import MAX_FAILED, IndexReport, Progress
from indexer.sources.captions import BESIDE
from indexer.sources.files import is_address
from indexer.sources.folder import is_left_out, read_suffixes

AT_ONCE = 10_000
"""Names that one run takes: each run looks at all roots, and holds what it is to compare in memory."""

SHOWN_ABSENT = 20
"""Names that are nowhere of which a report has the first."""

_ALL = Rules(include_hidden=True)


@dataclass(slots=True)
class ListedReport:
    """What became of names.

    Attributes:
        named: How many there were.
        absent: How many are neither on disk nor in the library.
        first_absent: The first of these.
        total: What all runs did together.
    """

    named: int = 0
    absent: int = 0
    first_absent: list[str] = field(default_factory=list)
    total: IndexReport = field(default_factory=IndexReport)


def index_listed(
    folder: Path,
    names: Iterable[str],
    settings: Settings,
    options: IndexOptions,
    *,
    progress: Progress | None = None,
    notify: Callable[[str], None] = lambda line: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ListedReport:
    """Index the files and folders that are named, in the library in `folder`; one that is gone leaves it.

    A file of a kind that is not indexed counts as passed over, as in a walk; one that says something of pictures beside
    it brings these. A folder is taken whole, unless a name beside it in the list is of something in it, as `find`
    lists them. A data set is not read. Raises what `index` raises, but a name that is nowhere is counted.
    """
    report = ListedReport()
    run = replace(options, keep=options.keep or KeptEncoder())
    for part in _parts(_without_listed_folders(names)):
        report.named += len(part)
        paths = to_index(_existing(folder, part, report))
        if paths:
            done = index(folder, paths, settings, run, progress=progress, notify=notify, should_stop=should_stop)
            _add(report.total, done)
        if should_stop():
            report.total.interrupted = True
            break
    return report


def _parts(names: Iterator[str]) -> Iterator[list[str]]:
    while part := list(islice(names, AT_ONCE)):
        yield part


def _without_listed_folders(names: Iterable[str]) -> Iterator[str]:
    """Yield names in order, without folders that the name before or after them lies in."""
    before, held = "", None
    for name in names:
        if held is not None and not _lies_in(name, held):
            yield held
        held = None
        if os.path.isdir(name):
            held = None if _lies_in(before, name) else name
        else:
            yield name
        before = name
    if held is not None:
        yield held


def _lies_in(name: str, folder: str) -> bool:
    return name.startswith(os.path.join(folder, "")) or (folder == os.curdir and not os.path.isabs(name))


def _existing(folder: Path, names: Iterable[str], report: ListedReport) -> list[str]:
    """Return the real paths of what is to be indexed, and count the rest."""
    found: list[str] = []
    gone: list[str] = []
    for name in names:
        try:
            mode = os.stat(name).st_mode
        except (OSError, ValueError):
            gone.append(name)
            continue
        path = os.path.realpath(name)
        if _is_read(path, mode):
            found.append(path)
        else:
            ending = suffix(path)
            report.total.passed_over[ending] = report.total.passed_over.get(ending, 0) + 1
    return found + (_known(folder, gone, report) if gone else [])


def _is_read(path: str, mode: int) -> bool:
    """Tell whether a path is that of a folder, of a file that is indexed, or of one that says something of another."""
    if is_left_out(os.path.basename(path), _ALL) or is_address(path):
        return False
    return stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and suffix(path) in read_suffixes() | BESIDE)


def _known(folder: Path, gone: Iterable[str], report: ListedReport) -> list[str]:
    """Return the paths of which the library has something though they are gone; count and name the others."""
    found: dict[str, str] = {}
    if catalog_file(folder).exists():
        with closing(Library(folder)) as library, library.query() as connection:
            paths = {name: os.path.realpath(name) for name in gone if "\0" not in name}
            held = held_paths(connection, library.base, paths.values())
            found = {name: path for name, path in paths.items() if path in held}
    for name in gone:
        if name not in found:
            report.absent += 1
            if len(report.first_absent) < SHOWN_ABSENT:
                report.first_absent.append(name)
    return list(found.values())


def _add(total: IndexReport, done: IndexReport) -> None:
    """Add what a run did; of failures and notes the first are kept, and failures are counted."""
    failed = total.count_failed() + done.count_failed()
    for name in _COUNTS:
        setattr(total, name, getattr(total, name) + getattr(done, name))
    for name in _LISTS:
        kept = getattr(total, name)
        kept += [each for each in getattr(done, name) if each not in kept][: max(0, MAX_FAILED - len(kept))]
    for ending, files in done.passed_over.items():
        total.passed_over[ending] = total.passed_over.get(ending, 0) + files
    total.failed_rows = failed if failed > len(total.failed) else 0
    total.interrupted |= done.interrupted


_COUNTS = [each.name for each in fields(IndexReport) if type(each.default) in (int, float)]
_COUNTS.remove("failed_rows")
_LISTS = [each.name for each in fields(IndexReport) if each.default_factory is list]
