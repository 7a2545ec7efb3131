"""clipsearch eval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli.options import json_option, library_option, note, read_settings, write_bytes
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable

if TYPE_CHECKING:
    from clipsearch.query.eval.evaluation import Estimate, Evaluated, Evaluation, Side

SECOND = ("prepared", "kept")
"""Instead of a folder: the second set of vectors of the library itself."""


@click.command("eval")
@click.argument("captions", type=click.Path(path_type=Path))
@click.option(
    "--compare",
    metavar="DIR",
    help="Measure this library too, and compare the two. `prepared` stands for the vectors that `clipsearch reindex` "
    "prepared in this library, `kept` for those that it kept.",
)
@click.option(
    "--template", "templates", multiple=True, metavar="TEXT",
    help='Also measure with captions put into this text, such as "a photo of {}", and compare. '
    "Of several templates, the vectors are averaged.",
)  # fmt: skip
@click.option(
    "--captioned-only", is_flag=True, help="Rank only the pictures that have captions, not all of the library."
)
@click.option("--plot", metavar="FILE", help="Draw the recall curves into a .png, .svg or .pdf file.")
@json_option
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
def eval(
    captions: Path,
    compare: str | None,
    templates: tuple[str, ...],
    captioned_only: bool,
    plot: str | None,
    as_json: bool,
    library: str | None,
    offline: bool | None,
) -> None:
    """Measure how well the library finds pictures by their captions, and captions by their pictures.

    \b
    clipsearch eval captions.csv
    clipsearch eval captions.csv --compare ./other-library --plot recall.png
    clipsearch eval captions.csv --compare prepared
    clipsearch eval captions.csv --template "a photo of {}"

    CAPTIONS is a .csv, .tsv or .jsonl file in UTF-8 with the columns `image` and `caption`. An image is a path relative
    to that file, or the end of a path in the library. Only the captions are encoded.
    """  # noqa: D301 - click wants the character itself
    if compare and templates:
        raise InvalidInputError("--compare and --template each make a comparison. Use only one of them.")
    if plot:
        from clipsearch.cli.plotting import check_plot

        check_plot(plot)
    from clipsearch import present
    from clipsearch.cli.progress import make_build_progress
    from clipsearch.query.eval.evaluation import evaluate

    sides = _sides(library, offline, compare, templates)
    with make_build_progress() as progress:
        found = evaluate(captions, sides, progress, captioned_only=captioned_only)
    _remark(found)
    write_bytes(present.to_json(to_payload(found)) if as_json else to_table(found).encode("utf-8", "backslashreplace"))
    if plot:
        from clipsearch.cli.plotting import draw_recall

        draw_recall(found, plot)


def _sides(library: str | None, offline: bool | None, compare: str | None, templates: tuple[str, ...]) -> list[Side]:
    from clipsearch.query.eval.evaluation import Side
    from clipsearch.query.opening import open_library, open_second

    settings, folder = read_settings(library=library, offline=offline)
    sides = [Side(open_library(folder, settings))]
    if compare in SECOND:
        sides.append(Side(open_second(folder, settings)))
    elif compare:
        sides.append(Side(open_library(read_settings(library=compare)[1], settings)))
    if templates:
        sides.append(Side(sides[0].engine, templates))
    return sides


def _remark(found: Evaluation) -> None:
    from clipsearch.query.eval.benchmark_set import shown_lines

    asked = found.asked
    if asked.left_out:
        where = "both libraries" if len(found.sides) > 1 else "the library"
        note(f"Left out: {len(asked.left_out):,} captions of pictures not in {where} ({shown_lines(asked.left_out)}).")
    if asked.repeated:
        note(f"Counted once: {len(asked.repeated):,} repeated captions ({shown_lines(asked.repeated)}).")
    if len({side.gallery for side in found.sides}) > 1:
        note(
            "The libraries hold different numbers of pictures, so one is a harder "
            "test. To compare fairly: --captioned-only"
        )


def to_payload(found: Evaluation) -> dict[str, Any]:
    """Return the stable JSON form of an evaluation."""
    from clipsearch.query.eval.evaluation import CONFIDENCE, RESAMPLES

    asked = found.asked
    payload: dict[str, Any] = {"captions": found.captions, "pictures": len(asked.names), "texts": len(asked.texts)}
    payload |= {"left_out": list(asked.left_out), "repeated": list(asked.repeated)}
    payload |= {"resamples": RESAMPLES, "interval": CONFIDENCE, "sides": [_side(side) for side in found.sides]}
    difference = {direction: _figures(each) for direction, each in found.differences.items()}
    return payload | {"difference": difference or None}


def _side(side: Evaluated) -> dict[str, Any]:
    head = {"library": side.library, "encoder": side.encoder, "templates": list(side.templates)}
    return head | {"gallery": side.gallery} | {name: _figures(each) for name, each in side.figures.items()}


def _figures(figures: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {name: {key: round(value, 6) for key, value in asdict(each).items()} for name, each in figures.items()}


def to_table(found: Evaluation) -> str:
    """Return one line a figure, a block for each direction."""
    lines = []
    for i, side in enumerate(found.sides):
        mark = f"{'AB'[i]}: " if len(found.sides) > 1 else ""
        put = " ".join(f"in {template!r}" for template in side.templates)
        among = f"{len(found.asked.texts):,} captions, {side.gallery:,} pictures"
        lines.append(
            f"{mark}{printable(side.library)}, {printable(side.encoder)}: {among}{f'; {printable(put)}' if put else ''}"
        )
    for direction, title in (("text_to_image", "text -> image"), ("image_to_text", "image -> text")):
        columns = {"AB"[i] if found.differences else "": side.figures[direction] for i, side in enumerate(found.sides)}
        if found.differences:
            columns["B - A"] = found.differences[direction]
        lines += ["", f"{title:<14}" + "".join(f"{name:<26}" for name in columns).rstrip()]
        for name in columns[next(iter(columns))]:
            cells = (_cell(name, each[name], column == "B - A") for column, each in columns.items())
            lines.append(f"{name:<14}" + "".join(f"{cell:<26}" for cell in cells).rstrip())
    return "\n".join(lines) + "\n"


def _cell(name: str, figure: Estimate, is_difference: bool) -> str:
    sign = "+" if is_difference else ""
    digits = "g" if name == "median_rank" else ".3f"
    low, high = (format(value, sign + digits) for value in (figure.low, figure.high))
    return f"{figure.value:{sign}{digits}} ({low} to {high})"
