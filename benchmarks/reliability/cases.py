"""The commands that the reliability runs kill and starve, and the libraries that these begin with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import corpus
import support
from checks import damage, read_state

BUILD = ("build", "--index", "pq4", "--library")
LABELS = ("label", "--labels", "red,green,blue", "--save", "--min-chance", 0.2, "--library")


@dataclass
class Case:
    """A command and the library that it begins with.

    is_whole: it changes all or nothing. is_mending: it begins with damage. accepts: exit codes of a second run; 2 where
    there is nothing left to do. extra: what else has to lie beside the library. check: what is wrong beside it after
    the command was cut off, and, with True, after it has run to its end.
    """

    name: str
    before: Path
    arguments: Callable[[Path], list[object]]
    is_whole: bool = False
    is_mending: bool = False
    accepts: tuple[int, ...] = (0,)
    extra: Callable[[Path], None] | None = None
    check: Callable[[Path, bool], list[str]] | None = None
    state: dict[str, Any] = field(default_factory=dict)


class Libraries:
    """Libraries of before, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.photos, self.moved = folder / "photos", folder / "changing"
        first = corpus.pictures(self.photos, 24)
        corpus.captions(self.photos, first[:4])
        corpus.texts(self.photos / "notes", 3)
        self.exports = [corpus.export(folder, name, 300, seed) for name, seed in (("one", 1), ("two", 2))]
        self.none = folder / "none" / "lib"

    def _run(self, *arguments: object) -> None:
        ended = support.fork(lambda: support.command(*arguments))
        if ended.code:
            raise RuntimeError(f"{arguments}: {ended.out}")

    def _copy(self, source: Path, name: str) -> Path:
        return corpus.copy(source, self.folder / name / "lib")

    @cached_property
    def small(self) -> Path:
        """Pictures, captions and texts."""
        library = self.folder / "small" / "lib"
        self._run(*corpus.index(library, self.photos))
        return library

    @cached_property
    def changed(self) -> Path:
        """Pictures of which some have moved, changed, come and gone since."""
        library = self.folder / "changed" / "lib"
        corpus.pictures(self.moved / "a", 16, 100)
        self._run(*corpus.index(library, self.moved))
        for number in range(100, 106):
            (self.moved / "b").mkdir(exist_ok=True)
            (self.moved / "a" / f"p{number:04d}.jpg").rename(self.moved / "b" / f"p{number:04d}.jpg")
        for number in range(106, 110):
            (self.moved / "a" / f"p{number:04d}.jpg").unlink()
        for number in range(110, 113):
            corpus.picture(self.moved / "a" / f"p{number:04d}.jpg", number + 500)
        corpus.pictures(self.moved / "c", 12, 200)
        return library

    @cached_property
    def large(self) -> Path:
        """The small one with a collection that is large enough for an index."""
        library = self._copy(self.small, "large")
        self._run(*corpus.bring(library, self.exports[0]))
        return library

    @cached_property
    def sparse(self) -> Path:
        """One with an index, and so many forgotten rows that the next run compacts it."""
        library = self._copy(self.large, "sparse")
        self._run(*corpus.bring(library, self.exports[1]))
        self._run(*BUILD, library)
        self._run("forget", self.exports[0][0], "--library", library)
        return library

    def of_version(self, version: int) -> Path:
        """The small one as an earlier clipsearch would have left it."""
        library = self._copy(self.small, f"version {version}")
        corpus.age(library, version)
        return library

    @cached_property
    def damaged(self) -> Path:
        """The small one, with two rows of its pictures zeroed."""
        library = self._copy(self.small, "damaged")
        segment = next((library / "vectors").glob("image-*"))
        data = bytearray(segment.read_bytes())
        data[3 * 2 * corpus.DIM : 5 * 2 * corpus.DIM] = bytes(2 * 2 * corpus.DIM)
        segment.write_bytes(data)
        return library


def cases(folder: Path, only: Sequence[str] = ()) -> list[Case]:
    """Return the commands, or some by name, with their libraries; those that this clipsearch lacks are left out."""
    known = Libraries(folder)
    make: dict[str, Callable[[], Case]] = {
        "index, first": lambda: Case("", known.none, lambda lib: corpus.index(lib, known.photos)),
        "index, changes": lambda: Case("", known.changed, lambda lib: corpus.index(lib, known.moved)),
        "label --save": lambda: Case("", known.small, lambda lib: [*LABELS, lib], is_whole=True),
        "build": lambda: Case(
            "", known.large, lambda lib: ["build", "--index", "pq4", "--library", lib], is_whole=True
        ),
        "compact": lambda: Case("", known.sparse, lambda lib: corpus.index(lib), is_whole=True),
        "forget": lambda: _forget(known),
        "import-embeddings": lambda: Case("", known.small, lambda lib: corpus.bring(lib, known.exports[0])),
        "migrate from 1": lambda: Case("", known.of_version(1), lambda lib: ["build", "--library", lib]),
        "migrate from 3": lambda: Case("", known.of_version(3), lambda lib: ["build", "--library", lib]),
    }
    if support.has_command("backup"):
        make["backup"] = lambda: _backup(known)
    if support.has_command("restore"):
        make["restore"] = lambda: _restore(known)
    if support.has_command("repair"):
        make["repair"] = lambda: Case("", known.damaged, lambda lib: ["repair", "--library", lib], is_mending=True)
    if unknown := set(only) - {*make}:
        raise SystemExit(f"There is no command {unknown}; there are {[*make]}.")
    found = []
    for name in only or make:
        found.append(make[name]())
        found[-1].name = name
    return found


def _forget(known: Libraries) -> Case:
    notes = known.photos / "notes"
    return Case("", known.large, lambda lib: ["forget", notes, "--library", lib], is_whole=True, accepts=(0, 2))


def _backup(known: Libraries) -> Case:
    """Back up a library that has grown since the last backup: what is there then is the old one or the new one."""
    states = [read_state(known.small), read_state(known.large)]

    def extra(trial: Path) -> None:
        library = corpus.copy(known.small, trial / "lib")
        if support.fork(lambda: support.command("backup", trial / "backup", "--library", library)).code:
            raise RuntimeError("the first backup does not work")
        corpus.copy(known.large, library)

    def check(trial: Path, is_final: bool) -> list[str]:
        code = support.command("restore", trial / "backup", "--library", trial / "restored", "--replace")
        if code:
            return [f"restore ends with {code}"]
        wrong = damage(trial / "restored")
        if read_state(trial / "restored") not in (states[1:] if is_final else states):
            wrong.append("what is restored is no state that was backed up")
        return wrong

    return Case(
        "",
        known.large,
        lambda lib: ["backup", lib.parent / "backup", "--library", lib],
        is_whole=True,
        extra=extra,
        check=check,
    )


def _restore(known: Libraries) -> Case:
    def extra(trial: Path) -> None:
        if support.fork(lambda: support.command("backup", trial / "backup", "--library", known.small)).code:
            raise RuntimeError("backup does not work")

    return Case(
        "",
        known.none,
        lambda lib: ["restore", lib.parent / "backup", "--library", lib],
        is_whole=True,
        extra=extra,
    )
