"""clipsearch label."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from clipsearch.cli.options import current_folder, json_option, library_option, note, read_settings, write_bytes
from clipsearch.errors import InvalidInputError

if TYPE_CHECKING:
    from clipsearch.query.labelling import Labelled
    from clipsearch.store.pictures import PictureRow


@click.command()
@click.argument("paths", nargs=-1)
@click.option(
    "--labels",
    required=True,
    metavar="LIST|FILE",
    help="Labels separated by commas, or a file with one label per line.",
)
@click.option(
    "--template", "templates", multiple=True, metavar="TEXT",
    help='The text that each label is put into. Of several templates, the vectors are averaged.  '
    '[default: "a photo of a {}"]',
)  # fmt: skip
@click.option(
    "-k", default=3, show_default=True, type=click.IntRange(min=1), help="How many labels to show for each picture."
)
@click.option("--save", is_flag=True, help="Save the best label of each picture as its tag, for `find --tag`.")
@click.option(
    "--min-chance", type=click.FloatRange(0, 1), metavar="CHANCE",
    help="With --save: the least chance of a label that is saved, from 0 to 1.  [default: 0.5]",
)  # fmt: skip
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a column for each label.")
@json_option
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
def label(
    paths: tuple[str, ...],
    labels: str,
    templates: tuple[str, ...],
    k: int,
    save: bool,
    min_chance: float | None,
    as_csv: bool,
    as_json: bool,
    library: str | None,
    offline: bool | None,
) -> None:
    """Show which of several labels fits each picture best.

    \b
    clipsearch label --labels cat,dog,bird
    clipsearch label photos/old --labels labels.txt --csv
    clipsearch label --labels cat,dog,bird --save

    Without PATHS, all pictures of the library are labelled; with PATHS, those in these files and folders. No picture is
    read: the labels are compared with the stored vectors. The chances of a picture add up to 1, so they only mean
    something if one of the labels fits.
    """  # noqa: D301 - click wants the character itself
    if as_csv and as_json:
        raise InvalidInputError("Only one of --csv and --json can be used.")
    if min_chance is not None and not save:
        raise InvalidInputError("--min-chance has no effect without --save. Add --save.")
    settings, folder = read_settings(library=library, offline=offline)
    from clipsearch.filtering import Filter
    from clipsearch.query.labelling import MIN_CHANCE, TEMPLATES, label_pictures, save_labels
    from clipsearch.query.opening import open_library

    names = read_labels(labels)
    filters = Filter(folders=paths) if paths else None
    put = templates or TEMPLATES
    with open_library(folder, settings) as engine:
        found = label_pictures(engine, names, templates=put, filters=filters)
        saved = save_labels(found, MIN_CHANCE if min_chance is None else min_chance) if save else None
        head: dict[str, Any] = {"library": str(folder), "encoder": engine.encoder.name, "labels": names}
        head |= {"templates": list(put), "scale": engine.encoder.logit_scale}
        parts = to_csv(found, names) if as_csv else to_json(found, head, k) if as_json else to_table(found, names, k)
        try:
            for part in parts:
                write_bytes(part)
        finally:
            if saved is not None:
                note(f"Pictures tagged: {saved.tagged:,} of {saved.pictures:,}. See: clipsearch tags")


def read_labels(labels: str) -> list[str]:
    """Read labels from a file if there is one of that name, one a line; else from between commas.

    Raises InvalidInputError for a file that cannot be read as UTF-8.
    """
    if not os.path.isfile(labels):
        return [label.strip() for label in labels.split(",")]
    try:
        lines = Path(labels).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"The labels in {labels} cannot be read: {error}. Save the file as UTF-8.") from error
    return [line.strip() for line in lines if line.strip()]


def to_csv(found: Iterable[Labelled], labels: Sequence[str]) -> Iterator[bytes]:
    """Return a line a picture, with the chance of every label, piece by piece."""
    yield _csv_lines([["id", "path", *labels]])
    for part in found:
        chances = part.chances.round(6).tolist()
        yield _csv_lines([p.id, p.path, *row] for p, row in zip(part.pictures, chances, strict=True))


def to_json(found: Iterable[Labelled], head: Mapping[str, Any], k: int) -> Iterator[bytes]:
    """Return one object, piece by piece: the head, and `pictures` with the k best labels of each."""
    from clipsearch import present

    yield present.to_json(head).rstrip(b"}\n") + b', "pictures": ['
    between = b""
    for picture, best in _best(found, head["labels"], k):
        labels = [{"label": label, "probability": round(chance, 6)} for label, chance in best]
        yield between + present.to_json({"id": picture.id, "path": picture.path, "labels": labels}).rstrip(b"\n")
        between = b", "
    yield b"]}\n"


def to_table(found: Iterable[Labelled], labels: Sequence[str], k: int) -> Iterator[bytes]:
    """Return a line a picture, with its k best labels."""
    from clipsearch.paths import printable
    from clipsearch.present import short_path

    folder = current_folder()
    for picture, best in _best(found, labels, k):
        shown = printable(", ".join(f"{label} {chance:.0%}" for label, chance in best))
        yield f"{short_path(picture.path, folder)}: {shown}\n".encode("utf-8", "backslashreplace")


def _best(
    found: Iterable[Labelled], labels: Sequence[str], k: int
) -> Iterator[tuple[PictureRow, list[tuple[str, float]]]]:
    for part in found:
        order = np.argsort(-part.chances, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(part.chances, order, 1)
        for picture, which, chances in zip(part.pictures, order.tolist(), best.tolist(), strict=True):
            yield picture, [(labels[i], chance) for i, chance in zip(which, chances, strict=True)]


def _csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines.getvalue().encode("utf-8", "backslashreplace")
