"""The installed command, run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sys.executable).with_name("clipsearch")


@dataclass
class Ran:
    """What a run of the installed command left."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a subprocess."""
    return {**os.environ, **(extra or {})}


def run_cli(
    *args: Any, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 120, **popen: Any
) -> Ran:
    """Run the installed command to its end; fail on a traceback."""
    command = [str(COMMAND), *(arg if isinstance(arg, bytes) else str(arg) for arg in args)]
    done = subprocess.run(command, cwd=cwd, env=environment(env), capture_output=True, timeout=timeout, **popen)
    return checked(done)


def checked(done: subprocess.CompletedProcess[bytes]) -> Ran:
    """Wrap what a run of the command left; fail on a traceback."""
    ran = Ran(done.returncode, done.stdout, done.stderr.decode(errors="replace"))
    assert "Traceback" not in ran.err, ran.err
    assert "Internal error" not in ran.err, ran.err
    return ran


def start_cli(*args: Any, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start the installed command."""
    command = [str(COMMAND), *(str(arg) for arg in args)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


BIND = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH; gone for good at the next exec
    if libc.prctl(24, capability, 0, 0, 0):
        sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command as root whom file permissions bind, as they bind any other user."""


def run_cli_bound(*args: Any, cwd: Path) -> Ran:
    """Run the installed command such that file permissions bind it; skip where that cannot be done."""
    if os.name != "posix":
        pytest.skip("needs POSIX permissions")
    if os.geteuid() != 0:
        return run_cli(*args, cwd=cwd)
    command = [sys.executable, "-c", BIND, str(COMMAND), *(str(arg) for arg in args)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, timeout=120)
    if done.returncode == 77:
        pytest.skip("root cannot be bound by permissions here")
    return checked(done)


def run_here(*args: Any, **env: str) -> tuple[int, bytes, bytes]:
    """Run a command in this process; its exit code, what it wrote to stdout, and to stderr."""
    from click.testing import CliRunner

    from clipsearch.cli.main import cli, complain
    from clipsearch.errors import ClipSearchError

    runner = CliRunner()
    names = {"CLIPSEARCH_SERVER": None, "CLIPSEARCH_TOKEN": None, "CLIPSEARCH_DAEMON": "0", **env}
    with runner.isolation(env=names) as (out, err, _):
        try:
            code = int(cli.main([str(arg) for arg in args], prog_name="clipsearch", standalone_mode=False) or 0)
        except ClipSearchError as error:
            code = error.exit_code
            complain(str(error))
        return code, out.getvalue(), err.getvalue()
