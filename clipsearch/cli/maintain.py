"""clipsearch status and forget: look after a library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clipsearch.cli.options import (
    count_files,
    json_option,
    library_option,
    note,
    read_settings,
    write_bytes,
    write_line,
)
from clipsearch.paths import printable

if TYPE_CHECKING:
    from clipsearch.store.catalog import Generation
    from clipsearch.store.summary import LibrarySummary


@click.command()
@json_option
@click.option("--failed", is_flag=True, help="List the files that could not be indexed, and why.")
@library_option
def status(as_json: bool, failed: bool, library: str | None) -> None:
    """Show what the library holds, and problems with it.

    \b
    clipsearch status
    clipsearch status --failed
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present
    from clipsearch.store.library import Library
    from clipsearch.store.summary import summarise

    _, folder = read_settings(library=library)
    summary = summarise(Library(folder))
    if as_json:
        write_bytes(present.to_json(summary.to_payload()))
        return
    lines = [f"{printable(path)}: {reason}" for path, reason in summary.failed] if failed else _describe(summary)
    for line in lines:
        write_line(line)


@click.command()
@click.argument("paths", nargs=-1, required=True)
@library_option
def forget(paths: tuple[str, ...], library: str | None) -> None:
    """Remove files, folders or data sets from the library.

    \b
    clipsearch forget ./photos/old

    Your files are not touched. A file in an indexed folder comes back with the next `clipsearch index`, unless it is
    excluded.
    """  # noqa: D301 - click wants the character itself
    from clipsearch.store.forget import forget as run
    from clipsearch.store.library import Library

    _, folder = read_settings(library=library)
    count = run(Library(folder), paths)
    note(f"Forgotten: {count_files(count)}. Your files were not touched.")


def _server(index: Generation) -> str:
    """Say where an index is that is not a part of the library."""
    return f" at {printable(str(index.params['uri']))}" if "uri" in index.params else ""


def _describe(summary: LibrarySummary) -> list[str]:
    from clipsearch.store.findings import counted

    lines = [f"library   {printable(summary.library)} ({summary.bytes:,} bytes)"]
    encoder = summary.encoder
    lines.append(f"encoder   {printable(encoder.name)} ({encoder.dim} dimensions)" if encoder else "encoder   none yet")
    for modality, part in summary.modalities.items():
        index = part.index
        kind = "exact scan" if index is None else f"{index.kind}, {index.watermark:,} rows in it{_server(index)}"
        counts = f"{count_files(part.files)}, {counted(part.vectors, 'vector')}, {part.deleted:,} deleted"
        lines.append(f"{modality:<9} {counts}; {kind}")
    if (second := summary.second) is not None:
        ready = f"{second.items:,} of {second.total:,} items, {second.bytes:,} bytes"
        missing = f"; {second.missing:,} cannot be encoded" if second.missing else ""
        named = f"{printable(second.encoder.name)} ({second.encoder.dim} dimensions)"
        lines.append(f"{second.role:<9} {named}: {ready}{missing}")
    for root in summary.roots:
        source = summary.sources.get(root.id)
        counts = "" if source is None else f"  ({count_files(source.items)} of {counted(source.done, 'whole shard')})"
        lines.append(f"{root.kind:<9} {printable(root.path)}{counts}" + ("  (offline)" if root.offline else ""))
    lines += [f"problem   {printable(problem)}" for problem in summary.problems]
    if summary.failed:
        lines.append(f"failed    {count_files(len(summary.failed))}; list them: clipsearch status --failed")
    return lines
