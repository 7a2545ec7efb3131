"""A disk that refuses, that is full, that a process dies on; and what was done to it in which order."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.support.paths import ROOT


class Faults:
    """Makes the n-th write, fsync or SQL step of a block fail with an error of the disk."""

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int) -> None:
        self.steps = 0
        self._fail_at = fail_at
        real_write, real_fsync = os.write, os.fsync

        def write(descriptor: int, data: Any) -> int:
            if self._hit():
                real_write(descriptor, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real_write(descriptor, data)

        def fsync(descriptor: int) -> None:
            if self._hit():
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real_fsync(descriptor)

        patch.setattr(os, "write", write)
        patch.setattr(os, "fsync", fsync)

    def _hit(self) -> bool:
        self.steps += 1
        return self.steps == self._fail_at


class Cut:
    """A disk that takes so many bytes more, then no more."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.write
        patch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: Any) -> int:
        done = self._write(descriptor, data[: self.room]) if self.room else 0
        self.room -= done
        if done == len(data):
            return done
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def die_at(fail_at: int, *, statements: bool = True) -> None:
    """End this process before, or half-way through, its n-th write, fsync, truncation, commit or statement."""
    steps = 0
    real_write, real_fsync, real_truncate = os.write, os.fsync, os.truncate

    def step(*arguments: Any, **_: Any) -> None:
        nonlocal steps
        if len(arguments) > 2 and not arguments[2].startswith(("INSERT INTO ", "UPDATE ", "DELETE FROM ", "ALTER ")):
            return  # a statement that only reads, or that is about the notes of the run
        if len(arguments) > 2 and " run_" in arguments[2][:20]:
            return
        steps += 1
        if steps == fail_at:
            os._exit(99)

    def write(descriptor: int, data: Any) -> int:
        step()
        done = real_write(descriptor, data[: (len(data) + 1) // 2])
        step()
        return done

    def fsync(descriptor: int) -> None:
        step()
        real_fsync(descriptor)
        step()

    def truncate(path: Any, size: int) -> None:
        step()
        real_truncate(path, size)

    os.write, os.fsync, os.truncate = write, fsync, truncate
    if statements:
        event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)


def crash_at_every_step(prepared: Path, scratch: Path, change: Callable[[Path], object]) -> None:
    """Change a copy of a library once for every step that this has, each time in a process that dies right there.

    Steps: before and half-way through every write, before and after every fsync, before every SQL statement and
    every SQL commit. Prints JSON: for each step the exit code and the folder; the last is of a change that got through.
    """
    found = []
    for fail_at in range(1, 1000):
        folder = scratch / str(fail_at)
        shutil.copytree(prepared, folder)
        child = os.fork()
        if child == 0:
            die_at(fail_at)
            change(folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found.append((os.waitstatus_to_exitcode(status), str(folder)))
        if found[-1][0] == 0:
            break
    sys.stdout.write(json.dumps(found))


def in_runner(module: str, name: str, *arguments: Path) -> list:
    """Run a function of a test module in a process of its own, which has no threads and may fork; read its JSON."""
    code = f"import sys, {module} as t; t.{name}(*map(t.Path, sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120)
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Step:
    """What was done, to which file (by inode, which a rename keeps) or table, and how much of it there was then."""

    what: str
    target: int | str
    size: int = 0


def inode(path: Path) -> int:
    return path.stat().st_ino


class Steps:
    """Notes each write, fsync, rename, new folder and commit of a block in order; all of them are still done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.taken: list[Step] = []
        self._tables: set[str] = set()
        for name in ("write", "fsync", "fdatasync"):
            if hasattr(os, name):
                patch.setattr(os, name, self._on_descriptor(name, getattr(os, name)))
        for name in ("rename", "replace"):
            patch.setattr(os, name, self._on_path("rename", getattr(os, name), 1))
        patch.setattr(os, "mkdir", self._on_path("mkdir", os.mkdir, 0))
        event.listen(Engine, "before_cursor_execute", self._on_statement)
        event.listen(Engine, "commit", self._on_commit)

    def stop(self) -> None:
        event.remove(Engine, "before_cursor_execute", self._on_statement)
        event.remove(Engine, "commit", self._on_commit)

    def _on_descriptor(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, *data: Any) -> Any:
            done = real(descriptor, *data)
            status = os.fstat(descriptor)
            what, size = ("write", done) if name == "write" else ("fsync", status.st_size)
            self.taken.append(Step(what, status.st_ino, size))
            return done

        return call

    def _on_path(self, what: str, real: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*arguments: Any, **handles: Any) -> None:
            real(*arguments, **handles)
            handle = handles.get("dst_dir_fd", handles.get("dir_fd"))
            self.taken.append(Step(what, os.stat(arguments[place], dir_fd=handle).st_ino))

        return call

    def _on_statement(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        words = statement.replace("INSERT INTO", "INSERT").split()
        if words[0] in ("INSERT", "UPDATE") and "SET digest" not in statement:  # which comes with every commit
            self._tables.add(words[1])

    def _on_commit(self, connection: Any) -> None:
        self.taken += [Step("commit", table) for table in sorted(self._tables)]
        self._tables.clear()

    def first(self, what: str, target: int | str, after: int = -1) -> int:
        """Return the number of the next such step; fail if no such step follows."""
        found = [i for i, s in enumerate(self.taken) if (s.what, s.target) == (what, target) and i > after]
        assert found, f"no {what} of {target} after step {after} of {self.taken}"
        return found[0]

    def of(self, what: str, target: int | str) -> list[int]:
        return [i for i, step in enumerate(self.taken) if (step.what, step.target) == (what, target)]
