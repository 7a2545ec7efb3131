"""`clipsearch serve` in a process of its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.cli import COMMAND, environment


@contextmanager
def running(library: Any, *options: Any, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; yields the process and its address."""
    command = [COMMAND, "serve", "--library", library, "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(env)) as process:
        try:
            assert process.stderr is not None
            found = re.match(r"Listening: (\S+)\. ", process.stderr.readline())
            assert found, process.stderr.read()
            yield process, found[1]
        finally:
            process.kill()
