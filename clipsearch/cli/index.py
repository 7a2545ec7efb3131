"""clipsearch index."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipsearch.cli.data_sets import data_set_options
from clipsearch.cli.options import count_files, json_option, library_option, note, read_settings, write_bytes
from clipsearch.cli.path_lists import STDIN, read_names
from clipsearch.cli.quiet import quiet_libraries, show_details
from clipsearch.cli.stopping import stop_flag
from clipsearch.encoders.compute import PRECISIONS
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable

if TYPE_CHECKING:
    from clipsearch.config import Settings
    from clipsearch.store.roots import RulesChange
    from indexer.executors.base import Executor
    from indexer.listed_paths import ListedReport
    from indexer.pipeline import IndexOptions
    from indexer.report import IndexReport

SHOWN_FAILURES = 20
_SHOWN_KINDS = 8


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
@data_set_options
@click.option("-0", "--null", is_flag=True, help="With - for PATHS: each name on stdin ends with NUL.")
@click.option("--retry-failed", is_flag=True, help="Try failed files again, even if they have not changed.")
@click.option("--rehash", is_flag=True, help="Read every file, even if its size and times say that it has not changed.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be done, judged by names, sizes and times, and change nothing."
)
@click.option(
    "--verbose", "-v", is_flag=True, help="Also say which files are passed over, and what decoders write of files."
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
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="Where data sets are embedded: in this process, or on a Ray cluster; needs the extra `ray`.",
)
@click.option(
    "--address", metavar="ADDRESS", help="The Ray cluster.  [default: $RAY_ADDRESS, else one of this machine]"
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
    columns: tuple[str, ...],
    pictures: str | None,
    fetch_urls: bool | None,
    null: bool,
    retry_failed: bool,
    rehash: bool,
    dry_run: bool,
    verbose: bool,
    as_json: bool,
    library: str | None,
    offline: bool | None,
    device: str | None,
    precision: str | None,
    batch_size: str | None,
    threads: int | None,
    executor: str,
    address: str | None,
    isolate: bool | None,
    ocr: bool | None,
    catalog: str | None,
) -> None:
    """Index folders, files and data sets, or update them.

    \b
    clipsearch index ./photos
    clipsearch index captions.parquet 'shards/{000..099}.tar' s3://BUCKET/FOLDER
    clipsearch index ~/Pictures ~/notes --exclude '*.tmp'
    find . -newer x -print0 | clipsearch index -0 -
    clipsearch index

    Run it again at any time: only new and changed files are encoded, moved files are recognised, and files that are
    gone are removed. Without PATHS, everything indexed before is brought up to date; - reads paths from stdin.
    """  # noqa: D301 - click wants the character itself
    from indexer.data_sets import make_options
    from indexer.pipeline import IndexOptions

    flags = {"device": device, "precision": precision, "batch_size": batch_size, "threads": threads, "isolate": isolate}
    settings, folder = read_settings(library=library, offline=offline, **flags)
    rules = _read_rules(exclude, no_exclude, include_hidden)
    source = make_options(columns, pictures, fetch_urls)
    chosen = _choose_executor(executor, address, settings)
    options = IndexOptions(rules, model, retry_failed, rehash, dry_run, ocr, source, chosen, catalog=catalog)
    show_details(verbose)
    names = read_names(STDIN, null=null) if _is_listed(paths, null) else None
    listed = _run(folder, paths, names, settings, options)
    if as_json:
        _write_json(listed.total)
    summarise(listed.total, dry_run, verbose)
    if listed.total.interrupted:
        sys.exit(130)
    _report_absent(listed)


def _read_rules(exclude: tuple[str, ...], no_exclude: bool, include_hidden: bool | None) -> RulesChange | None:
    """Return how the rules of the folders change; None if they stay."""
    from clipsearch.store.roots import RulesChange

    if exclude and no_exclude:
        raise InvalidInputError("Only one of --exclude and --no-exclude can be used.")
    change = RulesChange(() if no_exclude else exclude or None, include_hidden)
    return None if change == RulesChange() else change


def _run(
    folder: Path, paths: Sequence[str], names: Iterator[str] | None, settings: Settings, options: IndexOptions
) -> ListedReport:
    """Index paths, or where they are on stdin, names."""
    from clipsearch.cli.progress import make_progress
    from indexer.listed_paths import ListedReport, index_listed
    from indexer.pipeline import index as run

    with stop_flag() as stop, quiet_libraries(uses_ray=options.executor is not None), make_progress() as progress:
        if names is None:
            report = run(folder, paths, settings, options, progress=progress, notify=note, should_stop=stop.is_set)
            return ListedReport(total=report)
        return index_listed(folder, names, settings, options, progress=progress, notify=note, should_stop=stop.is_set)


def _is_listed(paths: tuple[str, ...], null: bool) -> bool:
    """Tell whether the paths are on stdin. Raises InvalidInputError for a use of - that means nothing."""
    if STDIN in paths and paths != (STDIN,):
        raise InvalidInputError("- stands for paths on stdin. Use it alone, or write ./- for a file of that name.")
    if null and paths != (STDIN,):
        raise InvalidInputError("-0 is about names on stdin. Write - for them: clipsearch index -0 -")
    return paths == (STDIN,)


def _report_absent(listed: ListedReport) -> None:
    """Name what is nowhere, and fail as for a path that is named. Raises InvalidInputError."""
    if not listed.absent:
        return
    for name in listed.first_absent:
        note(f"There is no file or folder {printable(name)}.")
    if listed.absent > len(listed.first_absent):
        note(f"... and {listed.absent - len(listed.first_absent):,} more.")
    raise InvalidInputError(
        f"{listed.absent:,} of {listed.named:,} names on stdin are of nothing on disk or in the library. Check them."
    )


def _write_json(report: IndexReport) -> None:
    from clipsearch import present

    write_bytes(present.to_json(payload_of(report)))


def _choose_executor(name: str, address: str | None, settings: Settings) -> Executor | None:
    """Return what embeds data sets; None for this process."""
    if name == "local":
        if address is not None:
            raise InvalidInputError("--address names a Ray cluster, so it needs --executor ray.")
        return None
    from indexer.executors.ray import RayExecutor, RayOptions

    return RayExecutor(RayOptions(address, settings.ray_workers, settings.ray_cpus, settings.ray_gpus))


def payload_of(report: IndexReport) -> dict[str, object]:
    """Return a report as JSON has it."""
    values = asdict(report)
    names = ("added", "changed", "moved", "removed", "unchanged", "encoded")
    rows = [name for name in ("failed_rows", "unfetched") if values[name]]
    failed = [{"path": path, "reason": reason} for path, reason in report.failed]
    read = ("read", "with_text") if report.read else ()
    notes = [{"path": path, "note": text} for path, text in report.notes]
    roots = [name for name in ("relocated", "retired") if values[name]]
    more = {"failed": failed, "notes": notes, "passed_over": report.passed_over, "seconds": report.seconds}
    return {name: values[name] for name in (*names, *read, *rows, *roots)} | more


def summarise(report: IndexReport, dry_run: bool = False, verbose: bool = False) -> None:
    """Say on stderr what a run did."""
    for path, reason in report.failed[:SHOWN_FAILURES]:
        note(f"failed: {printable(path)}: {printable(reason)}")
    if len(report.failed) > SHOWN_FAILURES:
        of_files = "" if report.failed_rows else "; see `clipsearch status --failed`"
        note(f"... and {report.count_failed() - SHOWN_FAILURES:,} more{of_files}")
    _show_notes(report, verbose)
    for old, new in report.relocated:
        note(f"moved: {printable(old)} is now {printable(new)}; its files keep ids, tags and collections")
    for path in report.retired:
        note(f"gone: {printable(path)}; all its files were found elsewhere, and it is no longer indexed")
    for path in report.offline:
        note(f"offline: {printable(path)} is gone or empty; its files are kept. To drop them: clipsearch forget PATH")
    names = ("added", "changed", "moved", "removed", "unchanged")
    parts = [f"{getattr(report, name):,} {name}" for name in names] + [f"{report.count_failed():,} failed"]
    rate = f", {report.encoded / report.seconds:,.0f} files/s encoded" if report.encoded and report.seconds else ""
    if report.unfetched:
        note(f"{report.unfetched:,} pictures with URLs were not fetched. To fetch them: --fetch-urls")
    if report.read:
        note(f"Recognised text in {report.with_text:,} of {report.read:,} pictures.")
    lead = "Would be: " if dry_run else "Stopped early. Committed: " if report.interrupted else "Done: "
    note(f"{lead}{', '.join(parts)} in {report.seconds:,.1f} s{rate}.")


def _show_notes(report: IndexReport, verbose: bool) -> None:
    """Show what was indexed in part, and what was passed over."""
    from clipsearch.media.extras import missing_extras

    for path, text in report.notes[:SHOWN_FAILURES]:
        note(f"note: {printable(path)}: {printable(text)}")
    if len(report.notes) > SHOWN_FAILURES:
        note(f"... and {len(report.notes) - SHOWN_FAILURES:,} more notes; all are in the output of --json")
    if report.beside:
        note(f"{report.beside:,} camera RAW files beside a JPEG of the same name count once with it.")
    if report.live_photos:
        with_it = "film counted with its picture" if report.live_photos == 1 else "films counted with their pictures"
        note(f"{report.live_photos:,} Live Photo {with_it}.")
    for name, files in missing_extras(report.passed_over).items():
        note(f"Passed over {count_files(files)} that an extra reads: pip install 'clipsearch[{name}]'")
    if count := sum(report.passed_over.values()):
        kinds = [
            f"{files:,} {printable(ending) or 'without an ending'}" for ending, files in report.passed_over.items()
        ]
        more = f", {len(kinds) - _SHOWN_KINDS:,} other kinds" if len(kinds) > _SHOWN_KINDS else ""
        of_kinds = f"{'of another kind' if count == 1 else 'of other kinds'}: {', '.join(kinds[:_SHOWN_KINDS])}{more}"
        note(f"Passed over {count_files(count)} {of_kinds}.{'' if verbose else ' Which: --verbose'}")
