"""clipsearch import-embeddings."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.errors import InvalidInputError
from clipsearch.types import Modality

if TYPE_CHECKING:
    from indexer.importing import ImportReport


@click.command("import-embeddings")
@click.argument("source")
@click.option("--encoder", metavar="NAME", help="The encoder that made the vectors, such as ViT-B-32/openai.")
@click.option(
    "--encoder-dir",
    metavar="DIR",
    help="Instead of --encoder: the folder of the open_clip model that made them. You trust it from then on.",
)
@click.option(
    "--items",
    metavar="FILE",
    help="The records of a .npy file, one per row, as .jsonl or .parquet. Each has a path, image_path, url, id or key, "
    "and may have caption or text, width, height, taken_at.",
)
@click.option(
    "--modality",
    type=click.Choice([str(modality) for modality in Modality]),
    help="What the vectors of a file were made from.  [default: image]",
)
@json_option
@library_option
def import_embeddings(
    source: str,
    encoder: str | None,
    encoder_dir: str | None,
    items: str | None,
    modality: str | None,
    as_json: bool,
    library: str | None,
) -> None:
    """Import vectors that were made elsewhere, without encoding anything.

    \b
    clipsearch import-embeddings photos.npy --items photos.jsonl \\
        --encoder ViT-B-32/openai
    clipsearch import-embeddings ./laion --encoder-dir ./my-clip

    SOURCE is a .npy file with one vector per row; a .parquet file with lists of numbers in its column vector, whose
    other columns are the records, as `clipsearch embed` writes it; or a folder made by clip-retrieval, with
    img_emb/*.npy, text_emb/*.npy and metadata/*.parquet. An export of `clipsearch export` needs none of these options,
    and a new library. All of it is checked before anything is stored. You can stop
    at any time and run it again: vectors that are already there are skipped, and changed records are replaced.

    To remove the import: clipsearch forget SOURCE.
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.cli.progress import Words, make_progress
    from indexer.export_files import is_export
    from indexer.importing import import_embeddings as run

    if is_export(source):
        given = (encoder, encoder_dir, items, modality)
        return _import_export(source, library, as_json=as_json, has_options=any(each is not None for each in given))
    if (encoder is None) == (encoder_dir is None):
        raise InvalidInputError("Name what made the vectors with one of --encoder NAME and --encoder-dir DIR.")
    settings, folder = read_settings(library=library)
    kind = Modality(modality) if modality else None
    with make_progress(Words("rows", "Importing", "to import")) as progress:
        report = run(
            folder,
            source,
            encoder=encoder,
            encoder_dir=encoder_dir,
            items=items,
            modality=kind,
            progress=progress,
            settings=settings,
        )
    if as_json:
        write_bytes(present.to_json(asdict(report)))
    _summarise(report)


def _import_export(source: str, library: str | None, *, as_json: bool, has_options: bool) -> None:
    from pathlib import Path

    from clipsearch import present
    from clipsearch.cli.progress import Words, make_progress
    from indexer.export_import import import_export

    if has_options:
        raise InvalidInputError("An export says all that options would. Leave them out, but for --library.")
    settings, folder = read_settings(library=library)
    with make_progress(Words("items and vectors", "Importing", "to import")) as progress:
        report = import_export(folder, Path(source), settings=settings, progress=progress)
    if as_json:
        write_bytes(present.to_json(asdict(report)))
    _summarise(report)


def _summarise(report: ImportReport) -> None:
    parts = [f"{getattr(report, name):,} {name}" for name in ("imported", "skipped", "replaced")]
    note(f"Done: {', '.join(parts)} in {report.seconds:,.1f} s.")
