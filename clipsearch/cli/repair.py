"""clipsearch repair."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clipsearch.cli.options import count_files, json_option, library_option, note, read_settings, write_bytes
from clipsearch.errors import StoreCorruptError
from clipsearch.paths import printable

if TYPE_CHECKING:
    from indexer.repair import RepairReport

SHOWN = 20


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@json_option
@library_option
@click.pass_context
def repair(context: click.Context, dry_run: bool, as_json: bool, library: str | None) -> None:
    """Repair a damaged library: encode again, from your files, only what is damaged.

    \b
    clipsearch repair --dry-run
    clipsearch repair

    Items whose files are gone are removed and listed. If damage remains, the exit code is 5.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.cli.progress import Words, make_progress
    from indexer.repair import repair as run

    settings, folder = read_settings(library=library)
    with make_progress(Words("files", "Repairing", "to encode again")) as progress:
        report = run(folder, settings, dry_run=dry_run, progress=progress)
    if as_json:
        write_bytes(present.to_json(asdict(report)))
    _summarise(report, dry_run)
    if report.remaining:
        context.exit(StoreCorruptError.exit_code)


def _summarise(report: RepairReport, dry_run: bool) -> None:
    if not report.damage:
        note("Nothing is damaged.")
        return
    note(f"Damaged: {', '.join(report.damage)}.")
    for lost in report.dropped[:SHOWN]:
        note(f"{'Would be removed' if dry_run else 'Removed'}: {printable(lost.path)}: {lost.reason}")
    if len(report.dropped) > SHOWN:
        note(f"... and {len(report.dropped) - SHOWN:,} more. List all of them: --json")
    for lost in report.unreachable[:SHOWN]:
        note(f"Not repaired: {printable(lost.path)}: {lost.reason}")
    done = "Would be encoded again" if dry_run else "Encoded again"
    note(f"{done}: {count_files(report.encoded)}; removed: {count_files(len(report.dropped))}.")
    if report.remaining and not dry_run:
        note(f"Still damaged: {', '.join(report.remaining)}.")
