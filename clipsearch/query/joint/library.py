"""Several libraries, open for reading, where an engine expects one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from clipsearch.errors import ClipSearchError, EncoderMismatchError, LibraryError, LibraryNotFoundError
from clipsearch.forking import abandon
from clipsearch.query.joint.part import Part
from clipsearch.query.joint.snapshot import JointSnapshot, OpenPart
from clipsearch.query.understanding.understood import Understood
from clipsearch.store.library import Library
from clipsearch.store.revision import RevisionCache
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import EncoderPin

SEPARATOR = ", "
"""What stands between the names of libraries where an answer has the name of one."""


class JointLibrary(Library):
    """Several libraries of one encoder. Safe to share by threads."""

    def __init__(self, parts: Sequence[Part], *, partial: bool = False, unopened: Sequence[str] = ()) -> None:
        """Join open libraries. partial: leave out those that are out of reach, with a warning, as long as one is not.

        unopened: warnings about libraries that could not be opened.
        """
        self.parts = list(parts)
        self.folder = SEPARATOR.join(part.name for part in parts)  # type: ignore[assignment]
        self.base = ""
        self._partial = partial
        self._unopened = tuple(unopened)
        self._is_closed = False
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._cache = RevisionCache()
        self._seen: tuple[object, ...] = ()
        self._count = 0
        self._pool = ThreadPoolExecutor(len(self.parts), thread_name_prefix="libraries")

    @property
    def encoder(self) -> EncoderPin | None:
        """The encoder of all; None while all are empty. Raises EncoderMismatchError where two differ."""
        self.require_open()
        pins, lost = self._reach()
        if not pins and lost:
            raise lost[0][1]
        return self._agreed(pins)

    def _reach(self) -> tuple[dict[int, EncoderPin | None], list[tuple[str, ClipSearchError]]]:
        """Return the encoder of each library that can be reached, and the errors of the others."""

        def ask(part: Part) -> EncoderPin | ClipSearchError | None:
            try:
                return part.pin()
            except ClipSearchError as error:
                if not self._partial:
                    raise _of(part, error) from error
                return error

        found = list(self._pool.map(ask, self.parts))
        pins = {i: each for i, each in enumerate(found) if not isinstance(each, ClipSearchError)}
        lost = [
            (part.name, each) for part, each in zip(self.parts, found, strict=True) if isinstance(each, ClipSearchError)
        ]
        return pins, lost

    def _agreed(self, pins: dict[int, EncoderPin | None]) -> EncoderPin | None:
        known = {number: pin for number, pin in pins.items() if pin is not None}
        if not known:
            return None
        first, pin = next(iter(known.items()))
        for number, other in known.items():
            if other != pin:
                one, two = (self.parts[i].name for i in (first, number))
                raise EncoderMismatchError(
                    f"{one} was made with {pin.name} ({pin.fingerprint[:12]}), but {two} with {other.name} "
                    f"({other.fingerprint[:12]}); vectors of two encoders cannot be compared. Search them one by one, "
                    "or index again with one encoder: clipsearch index FOLDER --model NAME --library NEW"
                )
        return pin

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """Open one state of each library. Raises what its part raises where one is out of reach, unless `partial`."""
        self.require_open()
        pins, unreached = self._reach()
        lost = [*self._unopened, *(f"{name} is not searched: {error}" for name, error in unreached)]
        opened: list[OpenPart] = []
        pin = self._agreed(pins)
        with ExitStack() as stack:
            for number, part in enumerate(self.parts):
                if pins.get(number) is None:
                    continue
                try:
                    opened.append(OpenPart(number, part, stack.enter_context(part.read())))
                except ClipSearchError as error:
                    if not self._partial:
                        raise _of(part, error) from error
                    lost.append(f"{part.name} is not searched: {error}")
            if lost and not opened:
                raise LibraryError(f"None of the libraries can be searched. {lost[0]}")
            revision = self._number(opened)
            yield JointSnapshot(opened, revision, self._cache, self._pool, lost, pin.dim if pin else 0)

    def understand(self, text: str) -> Understood:
        """Return what the words of a query mean to the library whose names say most of them. Raises as `read`."""
        self.require_open()

        def ask(part: Part) -> Understood | None:
            try:
                return part.understand(text)
            except ClipSearchError as error:
                if not self._partial:
                    raise _of(part, error) from error
                return None  # a search says that it is out of reach

        found = [each for each in self._pool.map(ask, self.parts) if each is not None]
        return max(found, key=lambda each: len(each.parts), default=Understood(text))

    def _number(self, opened: Sequence[OpenPart]) -> int:
        """Return a number for these states that rises with each change of one."""
        seen = tuple((each.number, each.state.revision) for each in opened)
        with self._lock:
            if seen != self._seen:
                self._seen, self._count = seen, self._count + 1
            return self._count

    def require_open(self) -> None:
        """Raise LibraryError if the libraries were closed."""
        if self._is_closed:
            raise LibraryError("The libraries are closed. Open them again: clipsearch.open([...])")

    def renew_after_fork(self) -> None:
        """Make again what holds threads, in a fork of the process."""
        abandon(self._pool, self._cache, self._lock)
        self._start()

    def close(self) -> None:
        """Close all, and wait for no search."""
        self._is_closed = True
        self._pool.shutdown(wait=False)
        for part in self.parts:
            part.close()

    @contextmanager
    def query(self) -> Iterator[NoReturn]:
        """Refuse what needs the catalog of one library."""
        raise LibraryError("Several libraries have no one catalog. Open the one that is meant: clipsearch.open(DIR)")
        yield


def _of(part: Part, error: ClipSearchError) -> ClipSearchError:
    """Name the library in an error, which keeps its kind."""
    text = str(error)
    if part.name in text:
        return error
    try:
        return type(error)(f"{part.name}: {text}")
    except TypeError:  # an error that is made of more than its text
        return LibraryError(f"{part.name}: {text}")


def missing(name: str) -> LibraryNotFoundError:
    """Build the error for a library that is not there."""
    return LibraryNotFoundError(f"There is no library in {name}. Leave it out, or open what is there: partial=True")
