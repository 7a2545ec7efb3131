"""clipsearch build."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from clipsearch.ann.registry import KINDS
from clipsearch.cli.options import library_option, note, read_settings

if TYPE_CHECKING:
    from indexer.build import Built

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class Size(click.ParamType[int]):
    """A number of bytes, such as 500MB, 2GiB or 1000000."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?\s*", str(value).lower())
        size = float(match[1]) * _UNITS[match[2]] if match else 0.0
        if not 1 <= size < 2**63:
            self.fail(f"{value!r} is not a size. Write it as 500MB or 2GiB.", param, ctx)
        return int(size)


@click.command()
@click.option(
    "--index",
    "kind",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help="The kind of index. flat: exact scan, no index. pq4: scan of 4-bit codes. "
    "ivfpq: inverted lists of 4-bit codes. "
    "torch_flat, faiss_flat: exact scan on a GPU, with 2 or 4 bytes per value. "
    "milvus: a Milvus server, see --uri. auto: flat, pq4 or ivfpq, by size. "
    "Scores are exact with every kind.",
)
@click.option(
    "--target-recall",
    type=click.FloatRange(0.5, 1.0),
    default=0.95,
    show_default=True,
    help="The share of the true first ten hits that an approximate search should find; measured separately for "
    "queries by words and by picture.",
)
@click.option(
    "--memory-budget",
    type=Size(),
    metavar="SIZE",
    help="How much memory the index may use, such as 500MB. Vectors stay on disk.  [default: what serves best]",
)
@click.option(
    "--queries",
    metavar="FILE",
    help="At least 50 queries by words, like those to come, to calibrate with: vectors as .npy, or texts as .csv, "
    ".tsv, .jsonl or .txt (one per line). They are kept for later runs; `auto` forgets them.",
)
@click.option(
    "--uri",
    metavar="URL",
    help="The Milvus server of --index milvus, such as http://127.0.0.1:19530; this trusts it. Its token comes from "
    "CLIPSEARCH_MILVUS_TOKEN, or the file that CLIPSEARCH_MILVUS_TOKEN_FILE names.",
)
@library_option
def build(
    kind: str,
    target_recall: float,
    memory_budget: int | None,
    queries: str | None,
    uri: str | None,
    library: str | None,
) -> None:
    """Build the search index again from the stored vectors.

    \b
    clipsearch build
    clipsearch build --target-recall 0.99
    clipsearch build --queries captions.csv
    clipsearch build --index milvus --uri http://127.0.0.1:19530

    No indexed file is read. The options are kept for later runs.
    """  # noqa: D301 - click wants the character itself
    from clipsearch.ann.server_trust import read_uri
    from clipsearch.cli.progress import make_build_progress
    from indexer.build import rebuild
    from indexer.plan import IndexPlan
    from indexer.queries import AUTO

    settings, folder = read_settings(library=library)
    plan = IndexPlan(kind, target_recall, memory_budget or 0, read_uri(uri) if uri is not None else "")
    with make_build_progress() as progress:
        built = rebuild(folder, settings, plan, queries, progress)
    for modality, what in built.items():
        for line in _describe(what, kind):
            note(f"{modality}: {line}")
    if queries not in (None, AUTO) and not any(what.calibration.kinds for what in built.values()):
        note("The queries are kept. An exact scan needs no calibration.")
    if not built:
        note("The library is empty; there is nothing to build.")


def _describe(built: Built, asked: str) -> list[str]:
    why = "" if asked in ("auto", built.kind) else f" (too few vectors for {asked}; an exact scan is fast)"
    lines = [f"{built.kind}, {built.rows:,} vectors{why}"]
    for kind, found in built.calibration.kinds.items():
        asked_with = "words" if kind == "text" else "a picture"
        if found.is_exact:
            lines.append(f"queries by {asked_with}: an exact scan of all {built.rows:,} vectors")
            continue
        lines.append(
            f"queries by {asked_with}: recall {found.recall:.3f} ± {found.error:.3f} of the exact first ten "
            f"({found.queries} queries, {found.source}), scanning {found.scanned:,.0f} vectors"
        )
    return lines
