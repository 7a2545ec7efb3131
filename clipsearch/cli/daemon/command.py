"""clipsearch daemon."""

from __future__ import annotations

import contextlib
import socket
import time

import click

from clipsearch.cli.daemon.protocol import ask, socket_path
from clipsearch.cli.options import note, write_line
from clipsearch.errors import ClipSearchError

_STOP_SECONDS = 10.0


@click.command()
@click.option(
    "--idle",
    metavar="MINUTES",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True, max=10**6),
    help="Stop after this many minutes without a query.",
)
@click.option("--status", is_flag=True, help="Show whether the daemon is running; exit code 1 if it is not.")
@click.option("--stop", is_flag=True, help="Stop the running daemon.")
def daemon(idle: float, status: bool, stop: bool) -> int:
    """Keep libraries open, so that `clipsearch query` answers faster.

    \b
    clipsearch daemon &
    clipsearch daemon --status
    clipsearch daemon --stop

    The daemon serves only you, for any library, and sees files as soon as they are indexed. If it is not running or
    cannot answer, `clipsearch query` answers by itself.
    """  # noqa: D301 - click wants the character itself
    if not hasattr(socket, "AF_UNIX"):
        raise ClipSearchError(
            "This system has no Unix sockets, which the daemon needs. Use `clipsearch query` without it."
        )
    if status:
        return _status()
    if stop:
        return _stop()
    return _serve(60 * idle)


def _serve(seconds: float) -> int:
    from clipsearch.cli.daemon import server

    server.end_on_sigterm()
    try:
        with contextlib.suppress(KeyboardInterrupt), server.listening() as listener:
            if listener is None:
                note(f"A daemon is already running: {socket_path()}")
                return 0
            note(
                f"Listening: {socket_path()}. It stops after {seconds / 60:g} minutes without a query, or with Ctrl-C."
            )
            server.DaemonServer(seconds).serve(listener)
    except OSError as error:
        raise ClipSearchError(
            f"The daemon cannot listen at {socket_path()}: {error.strerror or error}. Set XDG_RUNTIME_DIR to a "
            "folder of your own with a short path."
        ) from error
    return 0


def _status() -> int:
    reply = ask({"do": "status"})
    if not reply:
        write_line("No daemon is running.")
        return 1
    libraries = "1 library" if reply["libraries"] == 1 else f"{reply['libraries']} libraries"
    write_line(f"Process {reply['process']} is running: {libraries} open, {reply['answered']:,} queries answered.")
    return 0


def _stop() -> int:
    if not ask({"do": "stop"}):
        note("No daemon is running.")
        return 0
    until = time.monotonic() + _STOP_SECONDS
    while socket_path().exists() and time.monotonic() < until:
        time.sleep(0.01)
    note("Stopped.")
    return 0
