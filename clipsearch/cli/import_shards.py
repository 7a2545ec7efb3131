"""clipsearch import."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipsearch.cli.index import SHOWN_FAILURES
from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.cli.stopping import stop_flag
from clipsearch.paths import printable

if TYPE_CHECKING:
    from indexer.import_shards import ShardImportReport


@click.command("import")
@click.argument("directory", metavar="DIR")
@json_option
@library_option
def import_shards(directory: str, as_json: bool, library: str | None) -> None:
    """Import the shards that `embed --shard` wrote.

    \b
    clipsearch embed captions.parquet --out embedded --shard 1/2
    clipsearch embed captions.parquet --out embedded --shard 2/2
    clipsearch import embedded

    Each finished shard is committed once, in any order, however often this runs; what is there already is skipped.
    Shards that are not finished, or damaged, are named with the command that makes them. You can stop at any time and
    run it again.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.cli.progress import Words, make_progress
    from indexer.import_shards import import_shards as run

    settings, folder = read_settings(library=library)
    with stop_flag() as stop, make_progress(Words("shards", "Importing", "to import")) as progress:
        report = run(folder, Path(directory), settings, progress=progress, should_stop=stop.is_set)
    if as_json:
        write_bytes(present.to_json(_payload(report)))
    _summarise(report)
    if report.interrupted:
        sys.exit(130)
    if report.commands:
        sys.exit(1)


def _payload(report: ShardImportReport) -> dict[str, object]:
    values = asdict(report)
    names = ("added", "changed", "removed", "unchanged", "imported", "skipped", "unfinished", "commands", "failed_rows")
    failed = [{"path": path, "reason": reason} for path, reason in report.failed]
    damaged = [{"shard": shard, "reason": reason} for shard, reason in report.damaged]
    return {name: values[name] for name in names} | {"damaged": damaged, "failed": failed, "seconds": report.seconds}


def _summarise(report: ShardImportReport) -> None:
    for path, reason in report.failed[:SHOWN_FAILURES]:
        note(f"failed: {printable(path)}: {printable(reason)}")
    if report.failed_rows > SHOWN_FAILURES:
        note(f"... and {report.failed_rows - SHOWN_FAILURES:,} more rows.")
    for shard, reason in report.damaged:
        note(f"damaged: {printable(shard)}: {printable(reason)}")
    if report.unfinished:
        note(f"{len(report.unfinished):,} shards are not finished, such as {printable(report.unfinished[0])}.")
    if report.commands:
        note("To make them, then import again:")
        for command in report.commands[:SHOWN_FAILURES]:
            note(f"  {command}")
        if len(report.commands) > SHOWN_FAILURES:
            note(f"  ... and {len(report.commands) - SHOWN_FAILURES:,} more parts.")
    parts = [f"{getattr(report, name):,} {name}" for name in ("added", "changed", "removed", "unchanged")]
    lead = "Stopped early. Committed: " if report.interrupted else "Done: "
    shards = f"{report.imported:,} shards imported, {report.skipped:,} were there before"
    note(f"{lead}{shards}; {', '.join(parts)}, {report.failed_rows:,} failed in {report.seconds:,.1f} s.")
