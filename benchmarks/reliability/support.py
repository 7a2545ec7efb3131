"""What the reliability runs share: a place of their own, victims that are killed, the faulty disk, results.

A run imports everything and loads the encoder once. Each victim is a fork of it that runs a real command, so that a
trial costs milliseconds and not the seconds that Python takes to start. Forks are made by a process without threads.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import write_result

SHIM_SOURCE = Path(__file__).with_name("fault_shim.c")
ENCODER = "builtin-small"
SHIM = "RELIABILITY_SHIM"
SKIPPED = 77
"""Exit code of a run that cannot be made here."""


@dataclass(frozen=True)
class Ended:
    """How a victim ended. code: its exit code, or minus the signal that killed it. out: what it said."""

    code: int
    out: str


class Victim:
    """A fork of this process that runs a function; what it says goes to a file."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._output = tempfile.TemporaryFile("w+")
        self.process = os.fork()
        if self.process == 0:
            self._run(run)

    def _run(self, run: Callable[[], object]) -> NoReturn:
        code = 99
        try:
            for descriptor in (1, 2):
                os.dup2(self._output.fileno(), descriptor)
            code = int(run() or 0)  # type: ignore[call-overload]
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def kill(self) -> None:
        """Kill it, wherever it is."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)

    def is_running(self) -> bool:
        """Tell whether it is still at work."""
        return os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self, seconds: float = 120) -> Ended:
        """Wait for its end; one that hangs is killed, and its code is then that of SIGKILL."""
        until = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > until:
                self.kill()
            time.sleep(0.001)
        _, status = os.waitpid(self.process, 0)
        self._output.seek(0)
        out = self._output.read()
        self._output.close()
        return Ended(os.waitstatus_to_exitcode(status), out)


def require(run: Callable[[], object], seconds: float = 600) -> None:
    """Run a function in a fork. Raises RuntimeError if it does not end well."""
    ended = fork(lambda: run() or 0, seconds)
    if ended.code:
        raise RuntimeError(ended.out)


def fork(run: Callable[[], object], seconds: float = 120) -> Ended:
    """Run a function in a fork to its end."""
    return Victim(run).wait(seconds)


def ask_fork(run: Callable[[], Any], seconds: float = 120) -> Any:
    """Run a function in a fork and return what it returns, which JSON must hold; raise RuntimeError if it died."""
    with tempfile.TemporaryDirectory() as folder:
        reply = Path(folder) / "reply"
        ended = fork(lambda: reply.write_text(json.dumps(run())) and 0, seconds)
        if ended.code:
            raise RuntimeError(f"ended with {ended.code}: {ended.out[-2000:]}")
        return json.loads(reply.read_text())


def share(jobs: int, work: Callable[[int], Any]) -> list[Any]:
    """Run a function in so many forks side by side; return what it returns for each number from 0."""
    with tempfile.TemporaryDirectory() as folder:
        replies = [Path(folder) / str(job) for job in range(jobs)]
        victims = [
            Victim(lambda job=job, reply=reply: reply.write_text(json.dumps(work(job))) and 0)
            for job, reply in enumerate(replies)
        ]
        for victim in victims:
            ended = victim.wait(10**6)
            if ended.code:
                raise RuntimeError(f"a worker ended with {ended.code}: {ended.out[-2000:]}")
        return [json.loads(reply.read_text()) for reply in replies]


def command(*arguments: object) -> int:
    """Run the command line in this process, by its own entry point; return the exit code."""
    from clipsearch.cli.main import main

    sys.argv = ["clipsearch", *map(str, arguments)]
    try:
        main()
    except SystemExit as error:
        return int(error.code or 0)


def has_command(name: str) -> bool:
    """Tell whether the command line has a command."""
    from clipsearch.cli.main import COMMANDS

    return name in COMMANDS


def warm(offline_cache: Path) -> Any:
    """Import what commands import, and load the encoder, which every command in a fork then has at once."""
    os.environ["CLIPSEARCH_CACHE"] = str(offline_cache)
    from PIL import Image

    import indexer.importing
    import indexer.pipeline  # noqa: F401
    from clipsearch.ann import faiss_ivfpq  # noqa: F401
    from clipsearch.cli import main
    from clipsearch.encoders import registry

    for module in set(main.COMMANDS.values()):
        __import__(module)
    encoder = registry.load(ENCODER, threads=1, offline=True)
    encoder.encode_texts(["warm"])
    encoder.encode_images([Image.new("RGB", (32, 32))])
    registry.load = lambda name, **_: encoder  # the real one, loaded once
    _run_once(encoder)
    gc.collect()
    gc.freeze()  # else a collection in a fork copies all that is shared
    return encoder


def _run_once(encoder: Any) -> None:
    """Index and search a little here: what is imported and compiled on the way is so once, not in each fork."""
    import corpus
    from checks import Questions, damage

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        library = Path(folder) / "lib"
        corpus.pictures(Path(folder) / "photos", 4)
        nowhere = stack.enter_context(open(os.devnull, "w"))
        with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            for _ in range(2):
                command(*corpus.index(library, Path(folder) / "photos"))
            Questions(encoder).ask(library)
            damage(library)


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Give a folder, and keep the user's settings, caches and daemon out of what runs meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="clipsearch-reliability-"))
    for name in [name for name in os.environ if name.startswith("CLIPSEARCH_") and name != "CLIPSEARCH_CACHE"]:
        del os.environ[name]
    for kind in ("CONFIG", "DATA", "STATE"):
        os.environ[f"XDG_{kind}_HOME"] = str(folder / "home" / kind.lower())
    runtime = tempfile.mkdtemp(prefix="cs-")
    os.environ |= {"XDG_RUNTIME_DIR": runtime, "HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    os.environ |= {"CLIPSEARCH_DAEMON": "0", "CLIPSEARCH_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    os.environ |= {"CLIPSEARCH_QUERY_CACHE": "0", "OMP_NUM_THREADS": "1"}
    try:
        yield folder
    finally:
        for each in (folder, runtime):
            shutil.rmtree(each, ignore_errors=True)


def cache(folder: Path) -> Path:
    """Return where encoders are built: a cache that is there already, or one of this run."""
    return Path(os.environ.get("CLIPSEARCH_CACHE") or folder / "cache")


# --- The faulty disk


def under_shim() -> None:
    """Start this script again with the faulty disk under it. Exits with SKIPPED where there is no compiler for it."""
    if has_shim():
        return
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not sys.platform.startswith("linux") or compiler is None:
        skip("the faulty disk needs Linux and a C compiler (cc)")
    shim = Path(tempfile.mkdtemp(prefix="clipsearch-shim-")) / "fault_shim.so"
    build = [compiler, "-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-o", shim, SHIM_SOURCE, "-ldl"]
    done = subprocess.run(build, capture_output=True, text=True)
    if done.returncode:
        skip(f"the faulty disk does not compile: {done.stderr.strip()}")
    environment = {**os.environ, "LD_PRELOAD": str(shim), SHIM: str(shim), "OPENBLAS_NUM_THREADS": "1"}
    try:
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment).returncode)
    finally:
        shutil.rmtree(shim.parent, ignore_errors=True)


def has_shim() -> bool:
    """Tell whether the faulty disk is under this process."""
    return SHIM in os.environ


def arm(folder: Path, at: int, action: str, log: int = -1) -> None:
    """Make step number `at` below a folder fail in this process; see fault_shim.c for the actions."""
    _shim().fault_arm(os.fsencode(folder), ctypes.c_long(at), ctypes.c_char(action.encode()), log)


def disarm() -> bool:
    """Let the disk be a good one again; tell whether it had failed."""
    fired = bool(_shim().fault_fired())
    _shim().fault_arm(None, ctypes.c_long(0), ctypes.c_char(b"-"), -1)
    return fired


def _shim() -> Any:
    return ctypes.CDLL(os.environ[SHIM])


def steps_of(folder: Path, run: Callable[[], object]) -> tuple[Ended, list[str]]:
    """Run a function in a fork on a good disk, and return its steps below a folder by name, in order."""
    with tempfile.TemporaryFile("w+") as log:

        def noted() -> object:
            arm(folder, 0, "-", log.fileno())
            return run()

        ended = fork(noted)
        log.seek(0)
        return ended, log.read().splitlines()


def choose_steps(steps: list[str], most: int) -> list[int]:
    """Choose the numbers of steps to fail at, from 1: all that differ from their neighbours, and some of the rest.

    A transaction writes many pages in a row; of each such row the first and the last are taken. Where that is more
    than `most`, they are thinned evenly, and so are the others where it is less.
    """
    count = len(steps)
    edges = [i for i in range(count) if i in (0, count - 1) or not steps[i - 1] == steps[i] == steps[i + 1]]
    edges = [i for i in edges if not steps[i].endswith("-shm")]
    rest = [i for i in range(count) if i not in set(edges) and not steps[i].endswith("-shm")]
    chosen = _thin(edges, most)
    return sorted(i + 1 for i in chosen + _thin(rest, most - len(chosen)))


def _thin(values: list[int], most: int) -> list[int]:
    if most <= 0:
        return []
    return values if len(values) <= most else [values[i * len(values) // most] for i in range(most)]


# --- Results


def parser(description: str, **defaults: int) -> argparse.ArgumentParser:
    """Return the options that every run has; defaults: of --trials or --minutes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seed", type=int, default=1)
    for name, value in defaults.items():
        made.add_argument(f"--{name}", type=type(value), default=value)
    made.add_argument("--no-write", action="store_true", help="keep no result")
    return made


def report(name: str, given: argparse.Namespace, rows: list[dict[str, Any]], failures: list[str]) -> NoReturn:
    """Print the rows and the failures, keep them as a result, and exit with 1 if anything failed."""
    for row in rows:
        print(" | ".join(f"{key.replace('_', ' ')}: {value}" for key, value in row.items()))
    for failure in failures[:50]:
        print(f"FAILED {failure}")
    print(f"{len(failures)} failures")
    if not given.no_write:
        options = {key: value for key, value in vars(given).items() if key != "no_write"}
        write_result(f"reliability_{name}", {"options": options, "rows": rows, "failures": failures[:200]})
    sys.stdout.flush()
    sys.exit(1 if failures else 0)


def skip(reason: str) -> NoReturn:
    """Exit as a run that cannot be made here."""
    print(f"SKIPPED: {reason}", flush=True)
    sys.exit(SKIPPED)


def quiet() -> None:
    """Keep warnings of the libraries below out of what a run prints."""
    logging.getLogger("clipsearch").addHandler(logging.NullHandler())
    logging.getLogger("clipsearch").propagate = False
