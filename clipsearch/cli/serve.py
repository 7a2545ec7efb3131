"""clipsearch serve."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from clipsearch.cli.options import library_option, note, read_settings
from clipsearch.cli.server_token import own_token, read_token
from clipsearch.errors import ClipSearchError

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    default=8756,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port, 0 for any that is free.",
)
@click.option("--token-file", metavar="FILE", help="A file whose first line is what each request must bring.")
@click.option(
    "--token",
    envvar="CLIPSEARCH_TOKEN",
    help="What each request must bring; other users may see it here.  [default: $CLIPSEARCH_TOKEN]",
)
@click.option(
    "--allow-write/--read-only",
    "allow_write",
    help="Let requests change the library, with a token; on this machine one is made.  [default: no]",
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name by which a proxy is reached (repeatable).")
@click.option("--allow-urls", is_flag=True, help="Let a search or a record name a picture by its URL.")
@click.option(
    "--allow-index", multiple=True, metavar="DIR", help="A folder that requests may have indexed (repeatable)."
)
@click.option("--max-upload", default=32, show_default=True, type=click.IntRange(1, 1024), help="MiB of an upload.")
@click.option("--max-queue", default=256, show_default=True, type=click.IntRange(1), help="Requests at a time.")
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
def serve(
    token_file: str | None,
    token: str | None,
    allow_host: tuple[str, ...],
    allow_index: tuple[str, ...],
    max_upload: int,
    library: str | None,
    offline: bool | None,
    **given: Any,  # noqa: ANN401 - settings of the server by their names
) -> None:
    """Serve the library over HTTP.

    \b
    clipsearch serve --library ./photos/.clipsearch
    clipsearch serve --allow-write
    clipsearch serve --host 0.0.0.0 --token-file ~/.clipsearch-token

    It is reached from this machine only, and only reads, unless it is started otherwise. Ctrl-C stops it.
    """  # noqa: D301 - click wants the character itself
    load_numpy()
    try:
        import python_multipart  # noqa: F401 - the routes that take forms need it

        from clipsearch.server.app import create_app
        from clipsearch.server.connections import serve as run
        from clipsearch.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise ClipSearchError(
            f"`clipsearch serve` needs {error.name}, which is not installed. Run: pip install 'clipsearch[server]'"
        ) from error
    import clipsearch

    chosen = ServerSettings(
        token=read_token(token_file) if token_file else token or None,
        allowed_hosts=allow_host,
        index_folders=allow_index,
        max_upload=max_upload << 20,
        **given,
    )
    kept_at = None
    if chosen.allow_write and chosen.token is None and chosen.is_local and not chosen.allowed_hosts:
        own, kept_at = own_token()
        chosen = replace(chosen, token=own)
    chosen.check()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings, folder = read_settings(library=library, offline=offline)
    with clipsearch.open(folder, settings=settings) as engine:
        app = create_app(engine, chosen)
        run(app, functools.partial(_announce, kept_at))


def _announce(kept_at: Path | None, url: str) -> None:
    here = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    everywhere = "" if here == url else " Others reach it by any name or address of this machine."
    note(f"Listening: {here}. Open it in a browser.{everywhere} The description of its routes: {here}/v1/openapi.json")
    if kept_at is not None:
        note(f"The token that requests need is in {kept_at}")


def load_numpy() -> None:
    """Load numpy with one thread for its matrices, before anything else loads it with as many as there are cores.

    After each product of a small batch these spin for milliseconds, and take the cores from requests and encoder:
    a search of a batch then takes up to twice the processor time (benchmarks/serve.py). FAISS and programs that are
    started read the variable too, and must not.
    """
    if _BLAS_THREADS in os.environ:
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        del os.environ[_BLAS_THREADS]
