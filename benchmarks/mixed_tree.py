"""A tree of every kind of file, indexed to the end: python benchmarks/mixed_tree.py [--files 5000] [--seed 1]

Makes the tree (tests/support/mixed_tree.py): pictures of all formats, films, documents, texts, RAW, JPEG XL, PSD, SVG,
broken and hostile files, sidecars, tables of captions, and files of other kinds. Then, in processes of their own:

    index       to the end. What became of each file is compared with what was to become of it. The memory of the
                process and its children is the sum of their proportional set sizes, looked at 5 times a second, in
                the quarters of the run.
    index       again. Nothing may be encoded or decoded. An audit hook counts the files of the tree that were opened:
                only tables of captions may be, and pictures with a text of their name, for their first bytes.
    query       for one file of each kind, by its words, itself, a frame or a page: it has to be in the first ten.
    verify      has to find nothing.

Exits with 1 if one of these does not hold.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import av
from harness import COMMAND, HERE, write_result

sys.path.insert(0, str(HERE.parent))

from PIL import Image

from clipsearch.media.drawing import look
from tests.support.mixed_tree import BESIDE, FAILED, PASSED, READ, Made, make_tree

ENCODER = "builtin"
_HOOK = """
import os, sys
_log = os.open(os.environ["OPENED_LOG"], os.O_WRONLY | os.O_APPEND)
_tree = os.environ["OPENED_BELOW"] + "/"
def _note(event, given):
    if event == "open" and isinstance(given[0], (str, bytes)) and os.fsdecode(given[0]).startswith(_tree):
        os.write(_log, (os.fsdecode(given[0]) + "\\n").encode("utf-8", "surrogateescape"))
sys.addaudithook(_note)
"""
_EXPECTED_LINES = (
    "failed: ",
    "note: ",
    "... and ",
    "Done: ",
    "Passed over ",
    "Building ",
    "Built ",
    "No model",
    "Using ",
)


class Run:
    """A command in a process of its own, watched until it ends."""

    def __init__(self, arguments: list[str], tree: Path, scratch: Path) -> None:
        """Run it. tree: of which opened files are noted."""
        hook, log = scratch / "hook", scratch / "opened"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(_HOOK)
        log.write_bytes(b"")
        environment = os.environ | {
            "PYTHONPATH": f"{hook}{os.pathsep}{HERE.parent}",
            "OPENED_LOG": str(log),
            "OPENED_BELOW": str(tree),
            "CLIPSEARCH_DAEMON": "0",
            "HF_HUB_OFFLINE": "1",
        }
        started = time.monotonic()
        with open(scratch / "stdout", "w+b") as out, open(scratch / "stderr", "w+b") as err:
            process = subprocess.Popen([COMMAND, *arguments], stdout=out, stderr=err, env=environment)
            self.memory: list[float] = []
            watcher = threading.Thread(target=self._watch, args=(process,))
            watcher.start()
            self.code = process.wait()
            watcher.join()
        self.seconds = time.monotonic() - started
        self.out = (scratch / "stdout").read_text("utf-8", "replace")
        self.lines = (scratch / "stderr").read_text("utf-8", "replace").splitlines()
        self.opened = Counter(log.read_text("utf-8", "surrogateescape").splitlines())

    def quarters(self) -> list[int]:
        """Return the largest memory in each quarter of the run, in MiB."""
        size = -(-len(self.memory) // 4) or 1
        return [round(max(self.memory[at : at + size])) for at in range(0, len(self.memory), size)]

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            self.memory.append(sum(map(proportional, family(process.pid))) / 1024)
            time.sleep(0.2)


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for each in found:
        for path in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += map(int, path.read_text().split())
            except OSError:
                continue
    return found


def proportional(pid: int) -> int:
    """Return the proportional set size of a process in KiB, 0 of one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Check:
    """A tree, its library, and what did not hold."""

    def __init__(self, work: Path, files: int, seed: int) -> None:
        """Make the tree."""
        self.tree, self.library, self.work = work / "tree", work / "library", work
        self.made = make_tree(self.tree, files, seed, large=True)
        self.faults: list[str] = []

    def run(self, command: str, *arguments: str) -> Run:
        """Run a command on the library; a code that is not 0 is a fault."""
        found = Run([command, *arguments, "--library", str(self.library)], self.tree, self.work)
        if found.code:
            self.faults.append(f"{command} ended with {found.code}: {found.lines[-3:]}")
        return found

    def index(self) -> tuple[Run, dict]:
        """Index the tree; return the run and its report."""
        run = self.run("index", str(self.tree), "--model", ENCODER, "--json")
        noise = [line for line in run.lines if not line.startswith(_EXPECTED_LINES) and " files" not in line]
        self.faults += [f"noise: {line}" for line in noise[:20]]
        return run, json.loads(run.out or "{}")

    def compare(self, report: dict) -> list[dict]:
        """Compare a report with what was to become of each file; return a row for each kind."""
        failed = {os.path.relpath(each["path"], self.tree): each["reason"] for each in report["failed"]}
        listed = set(self.run("find", "-k", "1000000", "--paths").out.splitlines())
        found = {os.path.relpath(path, self.tree) for path in listed}
        rows: dict[str, dict] = {}
        for each in self.made:
            row = rows.setdefault(each.kind, dict.fromkeys(("files", READ, FAILED, PASSED, BESIDE), 0))
            fate = READ if each.path in found else FAILED if each.path in failed else each.fate
            if fate in {READ, FAILED} and each.path not in found and each.path not in failed:
                fate = "missing"
            row["files"] += 1
            row[fate] = row.get(fate, 0) + 1
            if fate != each.fate:
                self.faults.append(f"{each.path} ({each.kind}) is {fate}, not {each.fate}: {failed.get(each.path, '')}")
        passed = sum(report["passed_over"].values())
        if passed != sum(each.fate == PASSED for each in self.made):
            self.faults.append(f"{passed} passed over: {report['passed_over']}")
        return [{"kind": kind, **row} for kind, row in rows.items()]

    def again(self) -> dict:
        """Index once more; return what that did."""
        run, report = self.index()
        opened = {os.path.relpath(path, self.tree) for path in run.opened}
        # A text is that of a picture only if the head of the file beside it says that it is one.
        looked_at = {each.path for each in self.made if each.kind in {"table", "with text"}}
        if report.get("encoded") or report.get("unchanged") != sum(each.fate in {READ, FAILED} for each in self.made):
            self.faults.append(f"the second run: { ({**report, 'notes': ...}) }")
        if opened - looked_at:
            self.faults.append(f"the second run opened {sorted(opened - looked_at)[:20]}")
        names = ("unchanged", "encoded", "added", "changed", "removed")
        return {name: report.get(name) for name in names} | {
            "seconds": round(run.seconds, 2),
            "opened": len(opened),
            "peak_mib": round(max(run.memory, default=0)),
        }

    def ask(self) -> int:
        """Ask for one file of each kind; return how many kinds there are."""
        wanted: dict[str, Made] = {each.kind: each for each in self.made if each.words or each.picture}
        for kind, each in wanted.items():
            picture = self.tree / each.path
            if each.kind in {"film", "scan"}:
                drawn = first_frame(picture) if each.kind == "film" else look(picture.read_bytes(), 1024, 40_000_000)
                picture = self.work / "asked.png"
                drawn.save(picture)
            asked = [each.words] if each.words else ["--image", str(picture), "--modality", "image"]
            paths = self.run("query", *asked, "--paths").out.splitlines()
            if str(self.tree / each.path) not in paths:
                self.faults.append(f"{each.path} ({kind}) is not in the answer to {asked}")
        return len(wanted)


def first_frame(path: Path) -> Image.Image:
    """Return the first picture of a film."""
    with av.open(str(path)) as film:
        return next(film.decode(video=0)).to_image()


def main() -> None:
    """Make, index, check; write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="work here, and leave what was made")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = given.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        check = Check(work.resolve(), given.files, given.seed)
        first, report = check.index()
        rows = check.compare(report)
        rates = {
            "files": len(check.made),
            "seconds": round(first.seconds, 1),
            "memory_by_quarter_mib": first.quarters(),
        }
        values = {"rows": rows, "first": rates, "second": check.again(), "kinds_found": check.ask()}
        check.run("verify")
    for row in rows:
        print(row)
    for fault in check.faults:
        print("FAULT", fault)
    print({name: value for name, value in values.items() if name != "rows"})
    if check.faults:
        raise SystemExit(1)
    if given.files == parser.get_default("files"):
        write_result("mixed_tree", values)


if __name__ == "__main__":
    main()
