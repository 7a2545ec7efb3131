"""clipsearch reindex."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.cli.stopping import stop_flag
from clipsearch.encoders.compute import PRECISIONS
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable

if TYPE_CHECKING:
    from indexer.reindex import ReindexOptions, ReindexReport

SHOWN_MISSING = 20

_GOES_ON = "What is encoded stays; go on: clipsearch reindex"


@click.command()
@click.option("--model", metavar="NAME", help="The new encoder; see `clipsearch models`. Not needed to go on.")
@click.option("--no-flip", is_flag=True, help="Prepare the new vectors, and let the old ones go on answering.")
@click.option("--flip", is_flag=True, help="Let the vectors that were prepared answer, with all that came since.")
@click.option("--rollback", is_flag=True, help="Let the vectors answer again that did before the flip.")
@click.option("--discard", is_flag=True, help="Delete the vectors that do not answer: prepared ones, or the old ones.")
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Flip although some items cannot be encoded. They keep their tags and all else, and are encoded once their "
    "files are back.",
)
@json_option
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
@click.option("--device", metavar="DEVICE", help="Where to encode: auto, cpu, cuda (every GPU), cuda:N or mps.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="The precision of the encoder; auto costs no recall.")
@click.option("--batch-size", metavar="N", help="Pictures or passages per commit; auto for what suits the encoder.")
@click.option("--threads", type=click.IntRange(min=0), help="CPU threads to use; 0 for all.")
@click.option("--isolate/--no-isolate", default=None, help="Decode pictures in separate, limited processes, or here.")
def reindex(
    model: str | None,
    no_flip: bool,
    flip: bool,
    rollback: bool,
    discard: bool,
    allow_missing: bool,
    as_json: bool,
    library: str | None,
    offline: bool | None,
    device: str | None,
    precision: str | None,
    batch_size: str | None,
    threads: int | None,
    isolate: bool | None,
) -> None:
    """Change the encoder, while the library answers.

    \b
    clipsearch reindex --model best
    clipsearch reindex --model best --no-flip
    clipsearch reindex --rollback

    All items are encoded again, beside the vectors that answer; then the new ones take their place at once. The old
    ones are kept until you discard them. A run that was stopped goes on where it was: clipsearch reindex
    """  # noqa: D301 - click wants the character itself
    from clipsearch.cli.progress import Words, make_progress
    from indexer.reindex import ReindexOptions
    from indexer.reindex import reindex as run

    _check(model, no_flip, flip, rollback, discard)
    settings, folder = read_settings(
        library=library,
        offline=offline,
        device=device,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
        isolate=isolate,
    )
    if discard:
        from indexer.reindex import discard as delete

        _say_discarded(delete(folder))
        return
    options = ReindexOptions(model, rollback, not no_flip, allow_missing)
    with stop_flag() as stop, make_progress(Words("items", "Encoding", "to encode")) as progress:
        report = run(folder, settings, options, progress=progress, notify=note, should_stop=stop.is_set)
    if as_json:
        from clipsearch import present

        write_bytes(present.to_json(_payload(report)))
    _summarise(report, options)
    if report.interrupted:
        sys.exit(130)
    if options.flip and not report.flipped:
        sys.exit(1)


def _check(model: str | None, no_flip: bool, flip: bool, rollback: bool, discard: bool) -> None:
    if flip and no_flip:
        raise InvalidInputError("Only one of --flip and --no-flip can be used.")
    given = [("--model", model is not None), ("--rollback", rollback), ("--discard", discard)]
    used = [name for name, is_given in given if is_given]
    if len(used) > 1:
        raise InvalidInputError(f"Only one of {' and '.join(used)} can be used.")
    if (rollback or discard) and (flip or no_flip):
        raise InvalidInputError(f"{used[0]} cannot be used with --flip or --no-flip.")


def _say_discarded(found: object) -> None:
    from clipsearch.store.second_set import SecondSet

    if not isinstance(found, SecondSet):
        note("There is no second set of vectors; nothing was deleted.")
    else:
        note(f"Discarded: {found.vectors:,} vectors of {printable(found.encoder.name)}, {found.bytes:,} bytes.")


def _payload(report: ReindexReport) -> dict[str, object]:
    values = asdict(report)
    return values | {"missing": [{"path": path, "reason": reason} for path, reason in report.missing]}


def _summarise(report: ReindexReport, options: ReindexOptions) -> None:
    for path, reason in report.missing[:SHOWN_MISSING]:
        note(f"missing: {printable(path)}: {printable(reason)}")
    if len(report.missing) > SHOWN_MISSING:
        note(f"... and {len(report.missing) - SHOWN_MISSING:,} more; all of them: --json")
    rate = f", {report.encoded / report.seconds:,.0f} items/s" if report.encoded and report.seconds else ""
    done = f"{report.encoded:,} items encoded in {report.seconds:,.1f} s{rate}"
    new, before = printable(report.encoder), printable(report.before)
    if report.interrupted:
        note(f"Stopped early: {done}. {report.items:,} of {report.total:,} are ready. {_GOES_ON}")
    elif report.flipped:
        note(f"Done: {done}. {new} answers now.")
        note(f"The vectors of {before} are kept. Back to them: clipsearch reindex --rollback")
        note("Delete them: clipsearch reindex --discard")
    elif not options.flip:
        note(f"Prepared: {done}. {before} answers as before.")
        note("Compare: clipsearch eval CAPTIONS --compare prepared")
        note("Let the new vectors answer: clipsearch reindex --flip")
    else:
        note(
            f"Not flipped: {len(report.missing):,} of {report.total:,} items cannot be encoded with {new}. "
            f"{before} answers as before. To flip without them: clipsearch reindex --flip --allow-missing"
        )
