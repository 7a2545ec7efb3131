"""Flip single bits of a library's files: python benchmarks/reliability/flips.py [--trials N]

A library with pictures, captions, texts, tags, a collection, deleted files and a 4-bit index; twice: as a writer that
ended leaves it, and with the log of one that was killed (`catalog.db-wal`). Of each trial one bit of one file is
flipped, a fixed set of questions is asked of the library opened afresh, and the bit is flipped back. Each outcome is

    harmless   every answer is that of the unharmed library, to the byte
    error      a question ended in a ClipSearchError, and no other answer was wrong
    told       an answer differs, and said beside it what is wrong
    verify     an answer differs without a word, and `clipsearch verify --full` (before there was one, what doctor
               looks at) finds the damage
    silent     an answer differs without a word, and nothing finds the damage: a failure
    internal   an error that is not a ClipSearchError, or a signal: a failure

`found` counts the flips that verify finds, of those it was run for: `--verify-every` of the harmless ones, and all that
matter. Trials are shared out over the kinds of files by SHARES, evenly over the bytes of each.
"""

import json
import random
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import corpus
import support
from checks import Answer, Questions, damage

SHARES = {"catalog.db": 0.45, "catalog.db-wal": 0.15, "vectors": 0.25, "ann": 0.14, "lock": 0.01}
FAILURES = ("silent", "internal")
CHUNK = 50


def kind_of(name: str) -> str:
    """Return which of SHARES a file belongs to."""
    return name.split("/")[0]


class Flips:
    """One copy of the two libraries, whose bits are flipped one at a time."""

    def __init__(self, folder: Path, questions: Questions, verify_every: int) -> None:
        self.questions = questions
        self.verify_every = verify_every
        self.libraries = {name: folder / name / "lib" for name in ("closed", "killed")}
        self.files = {name: _files(library) for name, library in self.libraries.items()}
        self.right = {name: questions.ask(library) for name, library in self.libraries.items()}
        for name, answers in self.right.items():
            again = questions.ask(self.libraries[name])
            wrong = [key for key, answer in answers.items() if answer != again[key] or answer.error or answer.told]
            if wrong:
                raise RuntimeError(f"the unharmed library does not answer alike each time: {wrong}")

    def draw(self, chance: random.Random) -> tuple[str, str, int]:
        """Draw a library, a file of it and a bit; a log is flipped where there is one, all else in both."""
        while True:
            kind = chance.choices([*SHARES], [*SHARES.values()])[0]
            name = "killed" if kind == "catalog.db-wal" else chance.choice([*self.libraries])
            files = {path: size for path, size in self.files[name].items() if kind_of(path) == kind and size}
            if files:
                path = chance.choices([*files], [*files.values()])[0]
                return name, path, chance.randrange(8 * files[path])
            if kind == "lock":
                return name, "lock", 0

    def trial(self, name: str, path: str, bit: int, number: int) -> dict[str, Any]:
        """Flip, ask, flip back; return the outcome."""
        library = self.libraries[name]
        undo = self._keep_logs(library)
        _flip(library / path, bit)
        try:
            started = time.monotonic()
            answers = self.questions.ask(library)
            outcome, which = self._judge(name, answers)
            seconds = time.monotonic() - started
            found: list[str] | None = None
            if outcome not in ("harmless", "internal") or number % self.verify_every == 0:
                undo()
                found = damage(library)
            if outcome == "differs":
                outcome = "verify" if found else "silent"
        finally:
            undo()
            _flip(library / path, bit)
        return {
            "outcome": outcome,
            "kind": kind_of(path),
            "where": f"{name}/{path} bit {bit} (byte {bit // 8})",
            "which": which,
            "found": found is not None and bool(found),
            "looked": found is not None,
            "seconds": seconds,
        }

    def _judge(self, name: str, answers: dict[str, Answer]) -> tuple[str, str]:
        internal = [f"{key}: {a.error}" for key, a in answers.items() if a.error.startswith("INTERNAL")]
        if internal:
            return "internal", internal[0]
        wrong = [key for key, a in answers.items() if not a.error and a.value != self.right[name][key].value]
        silent = [key for key in wrong if not answers[key].told]
        if silent:
            return "differs", ", ".join(silent)
        if any(answer.error for answer in answers.values()):
            return "error", ""
        return ("told" if wrong else "harmless"), ", ".join(wrong)

    def _keep_logs(self, library: Path) -> Any:
        """Return what puts the log of the catalog back as it was: opening a library may change it."""
        log = library / "catalog.db-wal"
        kept = log.read_bytes() if log.exists() else None

        def undo() -> None:
            (library / "catalog.db-shm").unlink(missing_ok=True)
            if kept is None:
                log.unlink(missing_ok=True)

        return undo


def _flip(path: Path, bit: int) -> None:
    """Flip a bit; of an empty file, append a byte or take it away."""
    if path.name == "lock":
        path.write_bytes(b"" if path.read_bytes() else b"\x01")
        return
    with open(path, "r+b", buffering=0) as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def _files(library: Path) -> dict[str, int]:
    files = (path for path in sorted(library.rglob("*")) if path.is_file() and not path.name.endswith("-shm"))
    return {str(path.relative_to(library)): path.stat().st_size for path in files}


def make_libraries(folder: Path, records: int) -> None:
    """Make the library that a writer closed, and one whose writer was killed, so that it has a log.

    records: how large the collection is that makes up most of it.
    """
    closed = folder / "closed" / "lib"
    corpus.full_library(folder, closed, records)
    with closing(sqlite3.connect(closed / "catalog.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    killed = corpus.copy(closed, folder / "killed" / "lib")
    labels = ["label", "--labels", "cyan,olive", "--save", "--min-chance", 0.1, "--library", killed]
    corpus.pictures(folder / "photos" / "more", 12, 900)
    with closing(sqlite3.connect(killed / "catalog.db")) as holder:
        holder.execute("BEGIN")  # who reads keeps the writers from folding their log into the catalog
        holder.execute("SELECT count(*) FROM items").fetchone()
        corpus.run(corpus.index(killed, folder / "photos"))
        corpus.run(labels)
        corpus.copy(killed, folder / "kept" / "lib")
    shutil.rmtree(killed)
    (folder / "kept" / "lib").rename(killed)
    (killed / "catalog.db-shm").unlink(missing_ok=True)
    if not (killed / "catalog.db-wal").stat().st_size:
        raise RuntimeError("the killed library has no log")


def work(source: Path, folder: Path, encoder: Any, job: int, given: Any) -> list[dict[str, Any]]:
    """Do one job's share of the trials in forks: a signal ends only the fork, and is an outcome."""
    own = folder / f"job{job}"
    for name in ("closed", "killed"):
        corpus.copy(source / name / "lib", own / name / "lib")
    flips = Flips(own, Questions(encoder), given.verify_every)
    chance = random.Random(f"{given.seed} {job}")
    trials = [flips.draw(chance) for _ in range(given.trials // given.jobs + (job < given.trials % given.jobs))]
    done: list[dict[str, Any]] = []
    journal = own / "journal"
    while len(done) < len(trials):
        journal.write_text("")
        part = range(len(done), min(len(done) + CHUNK, len(trials)))

        def run(part: range = part) -> None:
            with open(journal, "a", buffering=1) as file:
                for number in part:
                    file.write(json.dumps(flips.trial(*trials[number], number)) + "\n")

        ended = support.fork(run, 600)
        done += [json.loads(line) for line in journal.read_text().splitlines()]
        if ended.code:  # the trial that killed it left its flip behind
            name, path, bit = trials[len(done)]
            which = f"ended with {ended.code}: {ended.out[-300:]}"
            where = f"{name}/{path} bit {bit} (byte {bit // 8})"
            done.append({"outcome": "internal", "kind": kind_of(path), "where": where, "which": which, "found": False})
            done[-1] |= {"looked": False, "seconds": 0.0}
            corpus.copy(source / name / "lib", flips.libraries[name])
    return done


def page_of(library: Path, byte: int) -> str:
    """Name the table that a byte of the catalog belongs to, as far as SQLite can tell."""
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        number = byte // size + 1
        try:
            row = db.execute("SELECT name, pagetype FROM dbstat WHERE pageno = ?", (number,)).fetchone()
        except sqlite3.Error:
            return f"page {number}"
    return f"page {number}, {' '.join(row)}, offset {byte % size}" if row else f"page {number}, free"


def main() -> None:
    parser = support.parser(__doc__, trials=10_000, jobs=2)
    parser.add_argument("--verify-every", type=int, default=20)
    parser.add_argument("--records", type=int, default=700, help="of the collection in the library")
    given = parser.parse_args()
    support.quiet()
    with support.workplace() as folder:
        encoder = support.warm(support.cache(folder))
        support.require(lambda: make_libraries(folder, given.records))
        done = support.share(given.jobs, lambda job: work(folder, folder, encoder, job, given))
        outcomes = [each for part in done for each in part]
        rows = [row(kind, outcomes) for kind in SHARES if any(o["kind"] == kind for o in outcomes)]
        failures = [describe(folder, each) for each in outcomes if each["outcome"] in FAILURES]
        support.report("flips", given, rows, failures)


def row(kind: str, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the flips of one kind of file."""
    own = [each for each in outcomes if each["kind"] == kind]
    counts = Counter(each["outcome"] for each in own)
    names = ("harmless", "error", "told", "verify", *FAILURES)
    looked = [each for each in own if each["looked"]]
    found = f"{sum(each['found'] for each in looked)} of {len(looked)}"
    return {"file": kind, "flips": len(own), **{name: counts[name] for name in names}, "found_by_verify": found}


def describe(folder: Path, outcome: dict[str, Any]) -> str:
    """Say where a flip was that nobody has seen, and which answers it changed."""
    where = outcome["where"]
    if outcome["kind"] == "catalog.db":
        name, byte = where.split("/")[0], int(where.split("byte ")[1].rstrip(")"))
        where += f", {page_of(folder / name / 'lib', byte)}"
    return f"{outcome['outcome']}: {where}: {outcome['which']}"


if __name__ == "__main__":
    main()
