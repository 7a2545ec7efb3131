"""Entry point: the group of commands, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import click

from clipsearch import __version__
from clipsearch.cli.options import note
from clipsearch.cli.streams import open_streams
from clipsearch.errors import ClipSearchError
from clipsearch.paths import printable

INTERRUPTED, INTERNAL = 130, 70

SECTIONS = {
    "Index": {
        "index": ("clipsearch.cli.index", "Add files, or bring the library up to date."),
        "watch": ("clipsearch.cli.watch", "Index folders whenever they change."),
        "import": ("clipsearch.cli.import_shards", "Import the shards that `embed --shard` wrote."),
        "import-embeddings": ("clipsearch.cli.import_embeddings", "Import vectors that were made elsewhere."),
        "forget": ("clipsearch.cli.maintain", "Remove files or folders from the library."),
    },
    "Search": {
        "query": ("clipsearch.cli.query", "Search by words, a picture, or several terms."),
        "save": ("clipsearch.cli.save", "Keep a search under a name."),
        "unsave": ("clipsearch.cli.saved", "Delete saved searches."),
        "similar": ("clipsearch.cli.similar", "Search by an item of the library, or a picture."),
        "match": ("clipsearch.cli.match", "Find what a crop or an edited copy came from."),
        "find": ("clipsearch.cli.find", "List the files that filters allow, newest first."),
        "label": ("clipsearch.cli.label", "Classify pictures by labels that you choose."),
        "tag": ("clipsearch.cli.tag", "Add tags to files, or remove them."),
        "collect": ("clipsearch.cli.collect", "Put files together in a collection."),
        "dupes": ("clipsearch.cli.dupes", "Find copies, and pictures that look the same."),
    },
    "Look": {
        "status": ("clipsearch.cli.maintain", "Show what the library holds."),
        "tags": ("clipsearch.cli.tags", "List the tags, and how many files have each."),
        "collections": ("clipsearch.cli.collections", "List the collections with their numbers of files."),
        "saved": ("clipsearch.cli.saved", "List the saved searches."),
        "models": ("clipsearch.cli.models", "List the encoders that you can choose."),
        "plan": ("clipsearch.cli.plan", "Estimate time, memory, disk and machines."),
        "eval": ("clipsearch.cli.eval", "Measure search quality with captions."),
    },
    "Connect": {
        "mcp": ("clipsearch.cli.mcp", "Serve the library to an assistant (MCP)."),
        "serve": ("clipsearch.cli.serve", "Serve the library over HTTP."),
        "embed": ("clipsearch.cli.embed", "Write the vectors of texts or pictures."),
    },
    "Maintain": {
        "doctor": ("clipsearch.cli.doctor", "Examine the library and suggest what to do."),
        "verify": ("clipsearch.cli.verify", "Compare the library with its checksums."),
        "repair": ("clipsearch.cli.repair", "Encode again what is damaged."),
        "reindex": ("clipsearch.cli.reindex", "Change the encoder while the library answers."),
        "build": ("clipsearch.cli.build", "Build the search index again."),
        "move-catalog": ("clipsearch.cli.move_catalog", "Move the catalog to PostgreSQL, or back."),
        "trust": ("clipsearch.cli.trust", "Allow a model from a folder or a hub, or a server."),
        "daemon": ("clipsearch.cli.daemon.command", "Keep libraries open for faster answers."),
    },
    "Share": {
        "export": ("clipsearch.cli.export", "Write items and vectors to open formats."),
        "backup": ("clipsearch.cli.backup", "Back up the library, copying only new data."),
        "restore": ("clipsearch.cli.restore", "Restore the library from a backup."),
    },
}
"""Heading of the help -> command -> its module and its line of the help."""

COMMANDS = {name: module for section in SECTIONS.values() for name, (module, _) in section.items()}
"""Command -> module; a module is imported when its command runs, so that a query and the help start fast."""

_FUNCTIONS = {"import": "import_shards"}
"""The functions of commands whose names Python keeps for itself."""

_SHORT_HELP = {name: text for section in SECTIONS.values() for name, (_, text) in section.items()}


class _ReaderGoneError(Exception):
    """The reader of stdout has closed the pipe; click itself would exit with code 1."""


@contextmanager
def _reader_may_go() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGoneError from error


class _Commands(click.Group):
    """A group that imports a command's module when it is asked for."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:  # noqa: ANN401 - whatever click has
        with _reader_may_go():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        with _reader_may_go():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        function = _FUNCTIONS.get(cmd_name, cmd_name.replace("-", "_"))
        command = getattr(importlib.import_module(COMMANDS[cmd_name]), function)
        if not gc.isenabled():  # see clipsearch.cli.entry
            gc.freeze()
            gc.enable()
        assert isinstance(command, click.Command)
        command.short_help = _SHORT_HELP[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings, without importing one."""
        width = max(map(len, COMMANDS))
        for heading, section in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in section.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=(
    "Exit codes: 0 done; 1 failed, or nothing found with --fail-if-none; 2 wrong usage or input; 3 no library, or "
    "nothing in it; 4 another process is writing; 5 the library is damaged; 6 the encoder is unavailable or is not "
    "the library's; 70 internal error, which is a bug; 130 interrupted."
))  # fmt: skip
@click.version_option(__version__, prog_name="clipsearch")
def cli() -> None:
    """Search your pictures and texts by meaning: by words, or by a picture.

    \b
    clipsearch index ./photos
    clipsearch query "a cat on a sofa"

    `clipsearch COMMAND --help` explains a command and its options.
    """  # noqa: D301 - click wants the character itself


def main() -> NoReturn:
    """Run the command line and exit."""
    open_streams()
    logger = logging.getLogger("clipsearch")
    if all(isinstance(each, logging.NullHandler) for each in logger.handlers):  # that of the library
        logger.addHandler(_Notes())
        logger.setLevel(logging.DEBUG if os.environ.get("CLIPSEARCH_DEBUG") else logging.INFO)
        logger.propagate = False
    if not os.environ.get("CLIPSEARCH_DEBUG"):
        warnings.simplefilter("ignore")
        # An interrupt that comes while a connection is closed is none of a user's business.
        # What Pillow logs of a damaged file is said by the reason why that failed.
        for name in ("sqlalchemy", "PIL"):
            logging.getLogger(name).addHandler(logging.NullHandler())
    sys.exit(_run())


def _run() -> int:
    try:
        code = cli.main(prog_name="clipsearch", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except _ReaderGoneError as error:
        return explain(error.__cause__ or error)
    except click.ClickException as error:
        with suppress(OSError):  # a stderr that nobody can read
            error.show(sys.stderr)
        return error.exit_code
    except ClipSearchError as error:
        complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort, OSError) as error:
        return explain(error)
    except Exception as error:
        if os.environ.get("CLIPSEARCH_DEBUG"):
            traceback.print_exc()
        complain(f"Internal error: {type(error).__name__}: {error}. Set CLIPSEARCH_DEBUG=1 to see where.")
        return INTERNAL


def explain(error: BaseException) -> int:
    """Say what the system or the user stopped; return the exit code."""
    if not isinstance(error, OSError):
        complain("Interrupted.")
        return INTERRUPTED
    try:
        sys.stdout.flush()
    except OSError:  # what cannot be written is dropped, or Python would complain about it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):  # whoever read our output has gone
        return 0
    complain(
        f"The system reports an error: {error.strerror or error}{f' ({error.filename})' if error.filename else ''}."
    )
    return 1


def complain(message: str) -> None:
    """Write an error to stderr."""
    lines = "\n".join(printable(line) for line in message.splitlines())
    note(f"clipsearch: {lines}")


class _Notes(logging.Handler):
    """Shows what the layers below log."""

    def emit(self, record: logging.LogRecord) -> None:
        note("\n".join(printable(line) for line in self.format(record).splitlines()))


if __name__ == "__main__":
    main()
