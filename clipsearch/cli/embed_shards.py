"""clipsearch embed --shard."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.cli.options import note, write_bytes
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable

if TYPE_CHECKING:
    from clipsearch.config import Settings
    from clipsearch.encoders.base import Encoder
    from indexer.data_sets import OptionsChange
    from indexer.embed_part import PartReport
    from indexer.shard_plan import ShardPlan

_PART = re.compile(r"(\d{1,7})/(\d{1,7})")


def embed_shards(
    address: str,
    out: str,
    shard: str,
    change: OptionsChange,
    settings: Settings,
    folder: Path,
    model: str | None,
    as_json: bool,
) -> None:
    """Embed one part of a data set into finished shards; exit with 1 if a shard cannot be read.

    address: of the data set. out: the folder for the shards. change: how the data set is read. folder: of the library
    whose encoder is used, unless `model` names another or `out` has shards already. Raises InvalidInputError for an
    invalid part, and what `embed_part` raises.
    """
    from clipsearch import present
    from clipsearch.cli.progress import Words, make_progress
    from indexer.embed_part import embed_part
    from indexer.shard_plan import read_plan
    from indexer.sources.registry import canonical, open_source

    number, parts = _read_part(shard)
    directory = Path(out)
    present_plan = read_plan(directory)
    plan, encoder = _make_plan(canonical(address), parts, change, present_plan, settings, folder, model)
    source = open_source(plan.source, plan.options)
    with make_progress(Words("rows", "Embedding", "to embed")) as progress:
        report = embed_part(directory, source, plan, number, settings, encoder=encoder, progress=progress)
    if as_json:
        write_bytes(present.to_json({**asdict(report), "encoder": plan.encoder.name}))
    _summarise(report)
    if report.unreadable:
        sys.exit(1)


def _read_part(shard: str) -> tuple[int, int]:
    found = _PART.fullmatch(shard)
    number, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < number <= parts:
        raise InvalidInputError(f"--shard is {shard!r:.40}, but must be a part and their number, from 1/4 to 4/4.")
    return number, parts


def _make_plan(
    address: str,
    parts: int,
    change: OptionsChange,
    present: ShardPlan | None,
    settings: Settings,
    folder: Path,
    model: str | None,
) -> tuple[ShardPlan, Encoder | None]:
    """Return what is to be embedded, and the encoder if it had to be loaded to know it."""
    from clipsearch.cli.embed import load_encoder
    from clipsearch.encoders import names
    from clipsearch.types import EncoderPin
    from indexer.shard_plan import ShardPlan
    from indexer.sources.registry import SourceOptions, open_source

    options = change.apply(present.options if present else SourceOptions())
    source = open_source(address, options)
    shards = tuple(source.shards(present.is_whole) if present else source.shards())
    if present is not None and (model is None or names.meant(model, present.encoder.name)):
        return ShardPlan(address, present.encoder, shards, options, parts), None
    encoder = load_encoder(model, settings, folder)
    pin = EncoderPin(encoder.name, encoder.fingerprint, encoder.dim)
    return ShardPlan(address, pin, shards, options, parts), encoder


def _summarise(report: PartReport) -> None:
    for name, reason in report.unreadable:
        note(f"failed: {printable(name)}: {printable(reason)}")
    done = report.shards - report.finished - len(report.unreadable)
    note(
        f"Done: {done:,} shards of {report.shards:,} embedded, {report.finished:,} were finished before; "
        f"{report.embedded:,} records, {report.failed:,} rows failed in {report.seconds:,.1f} s."
    )
