"""clipsearch watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clipsearch.cli.index import payload_of, summarise
from clipsearch.cli.options import library_option, note, read_settings, write_bytes
from clipsearch.cli.stopping import stop_flag

if TYPE_CHECKING:
    from indexer.report import IndexReport

_POLL_SECONDS = 10.0


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--model", metavar="NAME", help="The encoder of a new library; see `clipsearch models`.")
@click.option(
    "--poll",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=_POLL_SECONDS,
    metavar="SECONDS",
    help="Look at all files every SECONDS (10 without a number), as network drives need, which report no changes.",
)
@click.option(
    "--quiet",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Index what has changed once nothing more changes for so long, and after 4 times as long at the latest.",
)
@click.option(
    "--every",
    type=click.FloatRange(min=1),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="Compare everything this often, whatever was reported.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each run that changed something.")
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
@click.option("--threads", type=click.IntRange(min=0), help="CPU threads to use; 0 for all.")
def watch(
    paths: tuple[str, ...],
    model: str | None,
    poll: float | None,
    quiet: float,
    every: float,
    as_json: bool,
    library: str | None,
    offline: bool | None,
    threads: int | None,
) -> None:
    """Index folders, and keep the library up to date while they change.

    \b
    clipsearch watch ./photos
    clipsearch watch /mnt/nas/photos --poll 30

    Without PATHS, all folders of the library are watched. Other commands can write between two runs. Ctrl-C stops it.
    """  # noqa: D301 - click wants the character itself
    from indexer.changed_paths import Settling
    from indexer.pipeline import IndexOptions
    from indexer.watching import WatchOptions
    from indexer.watching import watch as run

    settings, folder = read_settings(library=library, offline=offline, threads=threads)
    options = WatchOptions(poll, Settling(quiet, 4 * quiet), every, IndexOptions(model=model))

    def show(report: IndexReport) -> None:
        if report.count_failed() or any(getattr(report, name) for name in ("added", "changed", "moved", "removed")):
            summarise(report)
            if as_json:
                from clipsearch import present

                write_bytes(present.to_json(payload_of(report)))

    with stop_flag() as stop:
        note("Watching. Press Ctrl-C to stop.")
        run(folder, paths, settings, options, on_run=show, notify=note, should_stop=stop.is_set)
