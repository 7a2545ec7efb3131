"""Cut the files of a library: python benchmarks/reliability/truncation.py [--trials N]

Every file of the library of flips.py is cut at every block boundary: the catalog and its log at every page of 4 KiB, a
segment and the files of an index at every KiB and, around each cut of the first rows, at each row; a file of less than
4 KiB at every 64 bytes; and each file is taken away as a whole. Twice: for a reader that opens the library after the
cut, and for one that has it open and has asked before, as when somebody copies an older file over the one in use.
Readers are forks: one that dies of a signal (SIGBUS) is a failure. So is an answer that differs without a word where
`clipsearch verify --full` finds nothing, and an error that is not a ClipSearchError. The outcomes are those of
flips.py, and `earlier`: of a log that is cut, all answers are those of the library as of an earlier commit, as a whole.
That cannot be told from a log that was never longer; a writer that ends leaves none.
"""

import random
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import corpus
import support
from checks import Questions, damage
from flips import FAILURES, kind_of, make_libraries

PAGE, KIB, ROW = 4096, 1024, 2 * corpus.DIM
WHOLE = -1
"""In the place of a size: the file is taken away."""


def cuts_of(path: str, size: int) -> list[int]:
    """Return the sizes that a file is cut to."""
    if size == 0:
        return [WHOLE]
    step = PAGE if kind_of(path).startswith("catalog") else KIB if size >= PAGE else 64
    rows = [row * ROW + part for row in (1, size // ROW // 2, size // ROW - 1) for part in (-1, 0, 1)]
    sizes = {*range(0, size, step), size - 1, *(rows if kind_of(path) == "vectors" else [])}
    return [WHOLE, *sorted(cut for cut in sizes if 0 <= cut < size)]


class Cuts:
    """One copy of the libraries, of which one file at a time is cut."""

    def __init__(self, source: Path, folder: Path, questions: Questions) -> None:
        self.source, self.folder, self.questions = source, folder, questions
        self.right = {}
        for name in ("closed", "killed"):
            self.right[name] = questions.ask(corpus.copy(source / name / "lib", folder / name / "lib"))
        self.earlier = [self._as_of(cut) for cut in (WHOLE, *_commits(source / "killed" / "lib"))]

    def _as_of(self, size: int) -> dict[str, str]:
        """Return the answers of the killed library when its log had that size."""
        library = corpus.copy(self.source / "killed" / "lib", self.folder / "killed" / "lib")
        _cut(library / "catalog.db-wal", size)
        return {key: answer.value for key, answer in self.questions.ask(library).items()}

    def trial(self, name: str, path: str, size: int, is_open: bool) -> dict[str, Any]:
        """Cut one file of a fresh copy while a reader has it open, or before one opens it; return the outcome."""
        library = corpus.copy(self.source / name / "lib", self.folder / name / "lib")
        outcome = {"kind": kind_of(path), "open": is_open, "which": ""}
        outcome["where"] = f"{name}/{path} {'taken away' if size == WHOLE else f'cut to {size} bytes'}"
        outcome["where"] += ", open already" if is_open else ""

        def read() -> list[list[Any]]:
            held = self.questions.hold(library) if is_open else None
            _cut(library / path, size)
            answers = self.questions.ask_held(held) if held else self.questions.ask(library)
            return [[key, answer.value, answer.told, answer.error] for key, answer in answers.items()]

        try:
            answers = support.ask_fork(read)
        except RuntimeError as error:
            return outcome | {"outcome": "internal", "which": str(error)[-300:]}
        internal = [f"{key}: {error}" for key, _, _, error in answers if error.startswith("INTERNAL")]
        if internal:
            return outcome | {"outcome": "internal", "which": internal[0]}
        right = self.right[name]
        wrong = [key for key, value, told, error in answers if not error and not told and value != right[key].value]
        if wrong and kind_of(path) == "catalog.db-wal" and {key: value for key, value, *_ in answers} in self.earlier:
            return outcome | {"outcome": "earlier"}
        if wrong:
            found = support.ask_fork(lambda: damage(library))
            return outcome | {"outcome": "verify" if found else "silent", "which": ", ".join(wrong)}
        is_harmless = all(value == right[key].value for key, value, _, error in answers if not error)
        errors = any(error for *_, error in answers)
        return outcome | {"outcome": "error" if errors else "harmless" if is_harmless else "told"}


def _commits(library: Path) -> list[int]:
    """Return the sizes of the log after each of its transactions."""
    data = (library / "catalog.db-wal").read_bytes()
    page = struct.unpack_from(">I", data, 8)[0]
    ends = range(32 + 24 + page, len(data) + 1, 24 + page)
    return [end for end in ends if struct.unpack_from(">I", data, end - page - 20)[0]]


def _cut(path: Path, size: int) -> None:
    if size == WHOLE:
        path.unlink()
    else:
        with open(path, "r+b") as file:
            file.truncate(size)


def trials(folder: Path, most: int, chance: random.Random) -> list[tuple[str, str, int, bool]]:
    """List every cut of every file, once for each kind of reader; at most so many, drawn at random; 0 for all."""
    found = []
    for name in ("closed", "killed"):
        library = folder / name / "lib"
        for path in sorted(path for path in library.rglob("*") if path.is_file() and path.name != "catalog.db-shm"):
            relative = str(path.relative_to(library))
            if name == "killed" and not relative.startswith("catalog"):
                continue  # the same as in the other
            cuts = cuts_of(relative, path.stat().st_size)
            found += [(name, relative, cut, is_open) for cut in cuts for is_open in (False, True)]
    return sorted(chance.sample(found, most)) if 0 < most < len(found) else found


def main() -> None:
    parser = support.parser(__doc__, trials=0, jobs=2)
    parser.add_argument("--records", type=int, default=700, help="of the collection in the library")
    given = parser.parse_args()
    support.quiet()
    with support.workplace() as folder:
        encoder = support.warm(support.cache(folder))
        support.require(lambda: make_libraries(folder, given.records))
        chosen = trials(folder, given.trials, random.Random(given.seed))

        def work(job: int) -> list[dict[str, Any]]:
            cuts = Cuts(folder, folder / f"job{job}", Questions(encoder))
            return [cuts.trial(*each) for each in chosen[job :: given.jobs]]

        outcomes = [each for done in support.share(given.jobs, work) for each in done]
        kinds = sorted({each["kind"] for each in outcomes})
        rows = [row(kind, is_open, outcomes) for kind in kinds for is_open in (False, True)]
        bad = [each for each in outcomes if each["outcome"] in FAILURES]
        support.report("truncation", given, rows, [f"{e['outcome']}: {e['where']}: {e['which']}" for e in bad])


def row(kind: str, is_open: bool, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the cuts of one kind of file."""
    counts = Counter(each["outcome"] for each in outcomes if each["kind"] == kind and each["open"] == is_open)
    names = ("harmless", "error", "told", "verify", "earlier", *FAILURES)
    reader = "open already" if is_open else "opened after"
    return {"file": kind, "reader": reader, "cuts": sum(counts.values()), **{name: counts[name] for name in names}}


if __name__ == "__main__":
    main()
