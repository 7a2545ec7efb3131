"""clipsearch index."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING

import click

from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.encoders.compute import PRECISIONS
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable

if TYPE_CHECKING:
    from indexer.report import IndexReport

SHOWN_FAILURES = 20

_SHOW_CURSOR = "\x1b[?25h\n"


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--model", metavar="NAME", help="The encoder of a new library; see `clipsearch models`.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out files and folders with this name; with a slash, this path below PATH. * and ? are wildcards. "
    "Kept for later runs. May be repeated.",
)
@click.option("--no-exclude", is_flag=True, help="Forget the patterns of earlier runs.")
@click.option(
    "--include-hidden/--no-include-hidden",
    default=None,
    help="Index files and folders that start with a dot, or leave them out. Kept for later runs.",
)
@click.option("--retry-failed", is_flag=True, help="Try failed files again, even if they have not changed.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be done, judged by names, sizes and times, and change nothing."
)
@json_option
@library_option
@click.option(
    "--catalog",
    metavar="URL",
    help="Keep the catalog of a new library in PostgreSQL: postgresql+psycopg://USER@HOST/DATABASE. "
    "Default: $CLIPSEARCH_CATALOG, else a file in the library. Needs the extra `postgres`.",
)
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
@click.option("--device", metavar="DEVICE", help="Where to encode: auto, cpu, cuda (every GPU), cuda:N or mps.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="The precision of the encoder; auto costs no recall.")
@click.option("--batch-size", metavar="N", help="Pictures or passages per commit; auto for what suits the encoder.")
@click.option("--threads", type=click.IntRange(min=0), help="CPU threads to use; 0 for all.")
@click.option(
    "--ocr/--no-ocr",
    default=None,
    help="Also recognise the text in pictures, so that it is found; needs the extra `ocr`. Kept for later runs.",
)
@click.option(
    "--isolate/--no-isolate",
    default=None,
    help="Decode pictures in separate, limited processes, or in this one. The default is this one; with 8 or more "
    "threads, separate processes after the first pictures. Use --isolate for files that you do not trust.",
)
def index(
    paths: tuple[str, ...],
    model: str | None,
    exclude: tuple[str, ...],
    no_exclude: bool,
    include_hidden: bool | None,
    retry_failed: bool,
    dry_run: bool,
    as_json: bool,
    library: str | None,
    offline: bool | None,
    device: str | None,
    precision: str | None,
    batch_size: str | None,
    threads: int | None,
    isolate: bool | None,
    ocr: bool | None,
    catalog: str | None,
) -> None:
    """Index folders and files, or bring the library up to date.

    \b
    clipsearch index ./photos
    clipsearch index ~/Pictures ~/notes --exclude '*.tmp'
    clipsearch index

    Run it again at any time: only new and changed files are encoded, moved files are recognised, and files that are
    gone are removed. Without PATHS, everything indexed before is brought up to date.
    """  # noqa: D301 - click wants the character itself
    from clipsearch.cli.progress import make_progress
    from clipsearch.store.roots import RulesChange
    from indexer.pipeline import IndexOptions
    from indexer.pipeline import index as run

    settings, folder = read_settings(
        library=library,
        offline=offline,
        device=device,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
        isolate=isolate,
    )
    if exclude and no_exclude:
        raise InvalidInputError("Only one of --exclude and --no-exclude can be used.")
    change = RulesChange(() if no_exclude else exclude or None, include_hidden)
    rules = None if change == RulesChange() else change
    options = IndexOptions(rules, model, retry_failed, dry_run, ocr, catalog=catalog)
    with _stop_flag() as stop, make_progress() as progress:
        report = run(folder, paths, settings, options, progress=progress, notify=note, should_stop=stop.is_set)
    if as_json:
        from clipsearch import present

        write_bytes(present.to_json(_payload(report)))
    _summarise(report, dry_run)
    if report.interrupted:
        sys.exit(130)


@contextmanager
def _stop_flag() -> Iterator[threading.Event]:
    """Give a flag that the first Ctrl-C or SIGTERM sets; the second ends the process.

    Raising KeyboardInterrupt instead would hit whatever runs then, such as a connection that is being closed. What is
    committed stands whatever a process dies of.
    """
    flag = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if flag.is_set():
            if sys.stderr is not None and sys.stderr.isatty():
                sys.stderr.write(_SHOW_CURSOR)  # which the progress bar hides
            note("Interrupted.")
            os._exit(130)
        flag.set()
        note("Stopping after this batch. Press Ctrl-C again to stop at once; what is committed stays.")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        if not flag.is_set():  # else the process is about to end, and Ctrl-C is to end it at once until then
            for number, handler in before.items():
                signal.signal(number, handler)


def _payload(report: IndexReport) -> dict[str, object]:
    values = asdict(report)
    names = ("added", "changed", "moved", "removed", "unchanged", "encoded")
    failed = [{"path": path, "reason": reason} for path, reason in report.failed]
    read = ("read", "with_text") if report.read else ()
    return {name: values[name] for name in (*names, *read)} | {"failed": failed, "seconds": report.seconds}


def _summarise(report: IndexReport, dry_run: bool) -> None:
    for path, reason in report.failed[:SHOWN_FAILURES]:
        note(f"failed: {printable(path)}: {printable(reason)}")
    if len(report.failed) > SHOWN_FAILURES:
        note(f"... and {len(report.failed) - SHOWN_FAILURES} more; see `clipsearch status --failed`")
    for path in report.offline:
        note(f"offline: {printable(path)} is gone or empty; its files are kept. To drop them: clipsearch forget PATH")
    names = ("added", "changed", "moved", "removed", "unchanged")
    parts = [f"{getattr(report, name):,} {name}" for name in names] + [f"{len(report.failed):,} failed"]
    rate = f", {report.encoded / report.seconds:,.0f} files/s encoded" if report.encoded and report.seconds else ""
    if report.read:
        note(f"Recognised text in {report.with_text:,} of {report.read:,} pictures.")
    lead = "Would be: " if dry_run else "Stopped early. Committed: " if report.interrupted else "Done: "
    note(f"{lead}{', '.join(parts)} in {report.seconds:,.1f} s{rate}.")
