"""clipsearch dupes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli.options import current_folder, json_option, library_option, note, read_settings, write_bytes
from clipsearch.errors import InvalidInputError

if TYPE_CHECKING:
    from clipsearch.query.duplicates import Copy, Duplicates

_SHOWN_UNCHECKED = 5


@click.command()
@click.option("--exact", is_flag=True, help="Only find files with identical bytes; no picture is read.")
@click.option(
    "--similarity", type=click.FloatRange(0, 1), metavar="COSINE",
    help="Compare pictures whose vectors are at least this similar.  [default: measured for the encoder]",
)  # fmt: skip
@click.option("--mirrored", is_flag=True, help="Find mirror images too.")
@json_option
@library_option
def dupes(exact: bool, similarity: float | None, mirrored: bool, as_json: bool, library: str | None) -> None:
    """Find identical files, and pictures that look the same.

    \b
    clipsearch dupes
    clipsearch dupes --exact
    clipsearch dupes --mirrored

    Pictures with similar vectors are read and compared by a perceptual hash. Scaled, recompressed, brightened and
    slightly cropped copies are found; other photographs of the same subject are not. In each group the file with the
    most pixels, then the most bytes, comes first. Nothing is deleted or changed.
    """  # noqa: D301 - click wants the character itself
    if exact and similarity is not None:
        raise InvalidInputError("--exact compares bytes and --similarity compares pictures. Use only one of them.")
    if exact and mirrored:
        raise InvalidInputError("--exact compares bytes and --mirrored compares pictures. Use only one of them.")
    from clipsearch import present
    from clipsearch.cli.progress import make_build_progress
    from clipsearch.query.duplicates import find_duplicates
    from clipsearch.store.library import Library

    settings, folder = read_settings(library=library)
    opened = Library(folder)
    with make_build_progress() as progress:
        found = find_duplicates(opened, settings, progress, exact=exact, similarity=similarity, mirrored=mirrored)
    _remark(found)
    payload = {"library": str(folder), **to_payload(found, mirrored=mirrored)}
    table = to_table(found, current_folder()).encode("utf-8", "backslashreplace")
    write_bytes(present.to_json(payload) if as_json else table)


def to_payload(found: Duplicates, *, mirrored: bool = False) -> dict[str, Any]:
    """Return the stable JSON form of what was found. mirrored: with whether each is a mirror image of the first."""
    groups: list[dict[str, Any]] = [
        {"kind": "exact" if group.exact else "near", "files": [_file(copy, mirrored) for copy in group.copies]}
        for group in found.groups
    ]
    least = None if found.similarity is None else round(found.similarity, 6)
    unchecked = [{"path": path, "reason": reason} for path, reason in found.unchecked]
    return {"similarity": least, "groups": groups, "unchecked": unchecked}


def _file(copy: Copy, mirrored: bool) -> dict[str, Any]:
    item = copy.item
    size = {"width": item.picture and item.picture.width, "height": item.picture and item.picture.height}
    score = None if copy.score is None else round(copy.score, 6)
    head = {"id": item.id, "path": item.path, "bytes": item.size, **size, "content_hash": item.content_hash}
    turned = {"mirrored": copy.mirrored} if mirrored else {}
    return head | {"score": score, "bits": copy.bits, **turned}


def to_table(found: Duplicates, folder: str) -> str:
    """Return a block of lines a group, paths short where they lie below a folder."""
    from clipsearch.present import short_path

    lines: list[str] = []
    for number, group in enumerate(found.groups, 1):
        kind = "equal files" if group.exact else "pictures that look the same"
        lines += [""] * bool(lines) + [f"{number}. {len(group.copies)} {kind}"]
        for copy in group.copies:
            info = copy.item.picture
            pixels = f"{info.width} x {info.height}" if info and info.width else ""
            near = "" if copy.score is None else f"{copy.score:.3f}"
            path = short_path(copy.item.path, folder) + "  (mirrored)" * copy.mirrored
            lines.append(f"   {near:<5}  {pixels:>13}  {copy.item.size:>13,}  {path}")
    return "\n".join(lines) + "\n" if lines else ""


def _remark(found: Duplicates) -> None:
    from clipsearch.paths import printable

    files = sum(len(group.copies) for group in found.groups)
    note(f"{len(found.groups):,} groups, {files:,} files. Nothing was changed." if files else "No copies.")
    if found.unchecked:
        note(f"Not compared, because they cannot be read now: {len(found.unchecked):,} pictures.")
        for _, reason in found.unchecked[:_SHOWN_UNCHECKED]:
            note(f"  {printable(reason)}")
