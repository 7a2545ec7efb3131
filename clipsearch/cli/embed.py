"""clipsearch embed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipsearch.cli.data_sets import data_set_options
from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.config import Settings
    from clipsearch.encoders.base import Encoder

SHOWN_FAILURES = 20


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--out", required=True, metavar="PATH", help="The file of vectors: .npy, or .parquet; with --shard a folder."
)
@click.option(
    "--shard", metavar="I/N", help="Embed part I of N of a data set, from 1/N to N/N, for `clipsearch import`."
)
@click.option(
    "--kind",
    type=click.Choice(["document", "query"]),
    default="document",
    show_default=True,
    help="What texts are: what is found, or what is looked for.",
)
@click.option("--model", metavar="NAME", help="The encoder.  [default: the library's, else as `index` chooses]")
@data_set_options
@json_option
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
def embed(
    sources: tuple[str, ...],
    out: str,
    shard: str | None,
    kind: str,
    model: str | None,
    columns: tuple[str, ...],
    pictures: str | None,
    fetch_urls: bool | None,
    as_json: bool,
    library: str | None,
    offline: bool | None,
) -> None:
    """Write the vectors of pictures or texts to a file, for a classifier, a recommender or another database.

    \b
    clipsearch embed ./photos --out photos.npy
    clipsearch embed questions.txt --kind query --out questions.parquet
    cat texts.jsonl | clipsearch embed - --out texts.npy
    clipsearch embed captions.parquet --out embedded --shard 3/100

    A SOURCE is a picture, a folder of pictures, a text file with one text per line, a .jsonl file whose objects have
    a text and maybe an id, or - for lines of stdin. Beside photos.npy, photos.jsonl says what each row is, as
    `clipsearch import-embeddings photos.npy --items photos.jsonl` reads it. What cannot be read has no row.

    With --shard, the SOURCE is a data set as `clipsearch index` takes it, and `clipsearch import DIR` reads what is
    written. Run the same command again at any time: what is finished is kept.
    """  # noqa: D301 - click wants the character itself
    from indexer.data_sets import OptionsChange, make_options

    change = make_options(columns, pictures, fetch_urls)
    settings, folder = read_settings(library=library, offline=offline)
    if shard is not None:
        from clipsearch.cli.embed_shards import embed_shards

        if len(sources) != 1 or kind != "document":
            raise InvalidInputError("With --shard, name one data set, and no --kind.")
        embed_shards(sources[0], out, shard, change, settings, folder, model, as_json)
    elif change != OptionsChange():
        raise InvalidInputError("--columns, --pictures and --fetch-urls are for data sets, with --shard.")
    else:
        _embed_file(sources, out, kind, settings, load_encoder(model, settings, folder), as_json)


def _embed_file(
    sources: Sequence[str], out: str, kind: str, settings: Settings, encoder: Encoder, as_json: bool
) -> None:
    """Write the vectors of pictures or texts to a file. Raises InvalidInputError where nothing can be embedded."""
    from clipsearch import present
    from clipsearch.cli.progress import make_build_progress
    from indexer.sources.lines import is_pictures
    from indexer.vector_file import VectorFile

    started = time.monotonic()
    are_pictures = {is_pictures(source) for source in sources}
    if len(are_pictures) > 1:
        raise InvalidInputError("Pictures and texts go into files of their own. Name one kind of SOURCE.")
    failed: list[dict[str, str]] = []
    rows = (
        _picture_rows(sources, encoder, settings, failed)
        if True in are_pictures
        else _text_rows(sources, encoder, kind, failed)
    )
    with make_build_progress() as progress, VectorFile(out, encoder.dim, sources) as file:
        progress.stage("Embedding", 0)
        for vectors, fields in rows:
            file.write(vectors, fields)
            progress.advance(len(fields))
    for each in failed[:SHOWN_FAILURES]:
        note(f"{printable(each['key'])}: {each['reason']}")
    if len(failed) > SHOWN_FAILURES:
        note(f"... and {len(failed) - SHOWN_FAILURES:,} more.")
    if not file.count:
        raise InvalidInputError(f"Nothing could be embedded, so {out} was not written.")
    seconds = round(time.monotonic() - started, 3)
    if as_json:
        report = {"embedded": file.count, "encoder": encoder.name, "dim": encoder.dim, "files": [*map(str, file.files)]}
        write_bytes(present.to_json({**report, "failed": failed, "seconds": seconds}))
    note(f"Done: {file.count:,} embedded, {len(failed):,} failed in {seconds:,.1f} s.")


def load_encoder(model: str | None, settings: Settings, folder: Path) -> Encoder:
    """Load the encoder that is named, else the library's, else the one that a new library would get."""
    from clipsearch.encoders import names, registry
    from clipsearch.store.library import Library
    from clipsearch.store.reading import catalog_file

    if model is None and catalog_file(folder).exists():
        library = Library(folder)
        try:
            if library.encoder is not None:
                from indexer.pipeline import pinned_encoder

                return pinned_encoder(library, settings)
        finally:
            library.close()
    found = names.resolve(model or settings.model, offline=settings.offline)
    if found.notice:
        note(found.notice)
    compute = {"device": settings.device, "precision": settings.precision}
    return registry.load(found.name, threads=settings.cores, offline=settings.offline, **compute)


_Rows = tuple["NDArray[np.float32]", list[dict[str, str]]]


def _picture_rows(
    sources: Sequence[str], encoder: Encoder, settings: Settings, failed: list[dict[str, str]]
) -> Iterator[_Rows]:
    """Yield the vectors of pictures, and their paths, a batch at a time; what cannot be read is added to `failed`."""
    from clipsearch.query.embeds import batches, embed_images, open_images
    from indexer.sources.lines import find_pictures

    paths = (path for source in sources for path in find_pictures(source))
    for part in batches(paths, encoder.batch_size):
        opened = zip(part, open_images(part, encoder, settings), strict=True)
        good = []
        for path, image in opened:
            if isinstance(image, Exception):
                failed.append({"key": path, "reason": str(image.__cause__ or image)})
            else:
                good.append((path, image))
        if good:
            yield embed_images(encoder, [image for _, image in good]), [{"path": path} for path, _ in good]


def _text_rows(sources: Sequence[str], encoder: Encoder, kind: str, failed: list[dict[str, str]]) -> Iterator[_Rows]:
    """Yield the vectors of texts, with their keys, a batch at a time; what cannot be used is added to `failed`."""
    from clipsearch.query.embeds import batches, embed_texts
    from indexer.sources.lines import read_texts

    lines = (line for source in sources for line in read_texts(source))
    for part in batches(lines, encoder.batch_size):
        failed += [{"key": line.key, "reason": line.reason} for line in part if line.text is None]
        good = [(line.key, line.text) for line in part if line.text is not None]
        if good:
            texts = [text for _, text in good]
            yield embed_texts(encoder, texts, kind), [{"key": key, "text": text} for key, text in good]
