"""Where the command begins: a plain question goes to the daemon, all else to the command line."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit."""
    from clipsearch.cli.streams import begin_in_utf8, drop_unwritable, open_streams

    begin_in_utf8()
    open_streams()
    try:
        _run()
    finally:
        drop_unwritable()


def _run() -> NoReturn:
    gc.disable()  # until the command is imported: to look for garbage among modules takes a hundredth of a query's time
    from clipsearch.cli.daemon.fast_path import is_answered

    try:
        done = is_answered(sys.argv[1:])
    except (OSError, KeyboardInterrupt) as error:
        from clipsearch.cli.main import explain

        sys.exit(explain(error))
    if done:
        sys.exit(0)
    from clipsearch.cli.main import main as run

    run()
