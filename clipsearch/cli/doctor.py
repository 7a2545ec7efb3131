"""clipsearch doctor: composes what is examined of the files, of the encoder and of the search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipsearch.cli.options import json_option, library_option, read_settings
from clipsearch.config import Settings
from clipsearch.errors import LibraryError, StoreCorruptError
from clipsearch.paths import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.ann.calibrate import Queries
    from clipsearch.encoders.base import Encoder
    from clipsearch.query.index_state import IndexGoal
    from clipsearch.store.findings import Finding
    from clipsearch.store.library import Library
    from clipsearch.store.snapshot import Snapshot
    from clipsearch.types import Modality
    from indexer.plan import IndexPlan

MAX_QUERIES = 500
"""As many of a kind are drawn."""


@click.command()
@json_option
@click.option(
    "--queries",
    type=click.IntRange(1, MAX_QUERIES),
    default=200,
    show_default=True,
    help="The most queries of each kind to measure with.",
)
@library_option
@click.pass_context
def doctor(context: click.Context, as_json: bool, queries: int, library: str | None) -> None:
    """Examine the library, and say what to do about each finding.

    \b
    clipsearch doctor

    It measures how many of the exact first ten answers a search finds, for queries by words and by picture, and how
    long a search takes. It also looks for damage in the catalog, the vectors and the index. Nothing is changed. If
    something is damaged, the exit code is 5.
    """  # noqa: D301 - click wants the character itself
    from clipsearch.cli.findings import report
    from clipsearch.cli.progress import make_build_progress

    settings, folder = read_settings(library=library)
    with make_build_progress() as progress:
        findings = list(_examine(folder, settings, queries, lambda name: progress.stage(name, 0)))
    report(context, folder, findings, as_json)


def _examine(folder: Path, settings: Settings, count: int, stage: Callable[[str], None]) -> Iterator[Finding]:
    """Examine a library. Raises LibraryNotFoundError if it does not exist."""
    from clipsearch.store.findings import RESTORE, Finding, Severity
    from clipsearch.store.library import Library

    try:
        library = Library(folder)
    except StoreCorruptError as error:
        yield Finding("catalog", Severity.PROBLEM, str(error), RESTORE)
        return
    try:
        yield from _examine_library(library, settings, count, stage)
    finally:
        library.close()


def _examine_library(
    library: Library, settings: Settings, count: int, stage: Callable[[str], None]
) -> Iterator[Finding]:
    from clipsearch.query.index_state import IndexGoal
    from clipsearch.store import health
    from clipsearch.store.findings import guarded

    plan = _plan(library)
    wanted = IndexGoal(plan.kind, plan.target_recall, _build_command(plan))
    stage("examining the files")
    yield from health.examine(library, wanted.command)
    yield from guarded("search", partial(_examine_search, library, wanted, settings, count, stage))


def _examine_search(
    library: Library, wanted: IndexGoal, settings: Settings, count: int, stage: Callable[[str], None]
) -> Iterator[Finding]:
    from clipsearch.query import doctor as search
    from clipsearch.types import Modality
    from indexer.calibration import encoder_loader

    stage("loading the encoder")
    finding, encoder = search.examine_encoder(library, encoder_loader(library, settings))
    yield finding
    draw = _Draw(library, encoder)
    for modality in Modality:
        stage(f"{modality}: measuring")
        yield from search.examine(library, modality, draw, wanted, count)


def _plan(library: Library) -> IndexPlan:
    """Return what the library wants of its index; the default where its catalog cannot tell."""
    from indexer.plan import IndexPlan

    try:
        return IndexPlan.of(library)
    except (LibraryError, ValueError):
        return IndexPlan()


def _build_command(plan: IndexPlan) -> str:
    """Return the command that rebuilds the index as configured: one without options would go back to defaults."""
    from clipsearch.store.findings import BUILD

    default, options = type(plan)(), ""
    if plan.kind != default.kind:
        options += f" --index {plan.kind}"
    if plan.target_recall != default.target_recall:
        options += f" --target-recall {plan.target_recall:g}"
    if plan.memory_budget:
        options += f" --memory-budget {plan.memory_budget}"
    if plan.uri:
        options += f" --uri {printable(plan.uri)}"
    return BUILD + options


class _Draw:
    """Draws queries as a calibration does; texts are encoded once, and asked of both modalities."""

    def __init__(self, library: Library, encoder: Encoder | None) -> None:
        self._library = library
        self._encoder = encoder
        self._texts: Queries | None = None

    def __call__(
        self, snapshot: Snapshot, modality: Modality, among: NDArray[np.bool_] | None
    ) -> Mapping[str, Queries]:
        """Return queries by kind; among: the rows of the modality that may be some, bool (rows,)."""
        from indexer.calibration import query_sets

        encoder = self._encoder if self._texts is None else None
        load = None if encoder is None else lambda: encoder
        sets = query_sets(self._library, snapshot, modality, snapshot.rows(modality), among, load)
        if self._texts is not None:
            sets["text"] = self._texts
        self._texts = sets.get("text")
        return sets
