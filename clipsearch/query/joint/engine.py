"""The engine of several libraries: they are searched and read as one, and written one by one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError, LibraryError
from clipsearch.forking import abandon, register
from clipsearch.query.asynchronous import EngineAsync
from clipsearch.query.batching import Batcher
from clipsearch.query.embeds import EngineEmbeds
from clipsearch.query.joint.ids import MAX_PARTS, split_id
from clipsearch.query.joint.library import JointLibrary
from clipsearch.query.joint.merging import merge_collections
from clipsearch.query.joint.part import Part
from clipsearch.query.joint.retriever import JointRetriever
from clipsearch.query.joint.states import StateChangedError
from clipsearch.query.matching import EngineMatches
from clipsearch.query.options import SearchOptions
from clipsearch.query.reading import EngineReads
from clipsearch.query.terms import Query
from clipsearch.query.understanding.understood import Understood
from clipsearch.types import Collection, Hit, Item, Results

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

_TURNS = 4
"""How often a search begins again while libraries of servers change."""

_WRITES = (
    "add", "build", "collect", "delete", "delete_collection", "delete_search", "index", "index_metadata",
    "remember_search", "rename_collection", "run_search", "save_search", "saved_searches", "search_saved", "tag",
    "update",
)  # fmt: skip


class JointEngine(EngineAsync, EngineMatches, EngineReads, EngineEmbeds):
    """Several libraries that are searched as one, as `SearchEngine` searches one; safe to use from several threads.

    The id of an item names its library too; see `library_of`. What is written is written to one library, by its own
    engine.

    Attributes:
        library: The libraries, as one.
    """

    library: JointLibrary

    def __init__(
        self, parts: Sequence[Part], settings: Settings | None = None, *, partial: bool = False,
        unopened: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Search open libraries, which share an encoder.

        Args:
            parts: The libraries, in the order in which their items stand.
            settings: Defaults if not given.
            partial: Leave out libraries that are out of reach, with a warning.
            unopened: Warnings about libraries that could not be opened.
        """
        if not 0 < len(parts) <= MAX_PARTS:
            raise InvalidInputError(f"From 1 to {MAX_PARTS:,} libraries can be searched as one, not {len(parts):,}.")
        names = [part.name for part in parts]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InvalidInputError(f"The library {twice} is named twice. Name each once.")
        self._may_be_empty = True
        self.library = JointLibrary(parts, partial=partial, unopened=unopened)
        self._settings = settings or Settings()
        self._encoder, self._embedder = None, None
        self._start()
        register(self)

    def _start(self) -> None:
        self._retriever = JointRetriever(self.library)
        self._lock = threading.Lock()
        self._batcher = Batcher(self._answer_together)

    @property
    def libraries(self) -> tuple[str, ...]:
        """The folders and URLs of the libraries, in their order."""
        return tuple(part.name for part in self.library.parts)

    @property
    def settings(self) -> Settings:
        """The settings that it was opened with."""
        return self._settings

    def library_of(self, item: Item | int) -> str:
        """Return the folder or the URL of the library of an item, or of an id. Raises InvalidInputError."""
        number = item.id if isinstance(item, Item) else item
        part, _ = split_id(number)
        if not isinstance(number, int) or not 0 <= part < len(self.library.parts):
            raise InvalidInputError(
                f"{number!r} is no id of an item of these libraries. Take it from a hit: hit.item.id"
            )
        return self.libraries[part]

    def _search_batch(self, options: SearchOptions, **queries: Any) -> list[Results]:  # noqa: ANN401 - as EngineSearches
        return self._until_unchanged(partial(super()._search_batch, options, **queries))

    def _search_composed(self, query: Query, options: SearchOptions) -> Results:
        return self._until_unchanged(partial(super()._search_composed, query, options))

    def _until_unchanged(self, search: Callable[[], T]) -> T:
        """Search again where a library of a server changed meanwhile. Raises StateChangedError where it never rests."""
        for _ in range(_TURNS):
            try:
                return search()
            except StateChangedError:
                continue
        return search()

    def understand(self, text: str) -> Understood:
        """Lift filters out of words as `SearchEngine.understand` does, by the names of the library that knows most."""
        if not isinstance(text, str):
            raise InvalidInputError(f"Words to understand are a str, not {type(text).__name__}.")
        return self.library.understand(text)

    def thumbnail(self, key: str, *, side: int = 256) -> bytes:
        """Return an item's picture, reduced, as `SearchEngine.thumbnail` does, from the first library that has it."""
        item = self.get(key) if isinstance(key, str) and key else None
        if item is None:
            raise InvalidInputError(f"No item has the key {key!r}. Take it from a hit: hit.item.key.")
        return self.library.parts[split_id(item.id)[0]].thumbnail(key, side)

    def _picture_of(self, hit: Hit, side: int) -> Image:
        from clipsearch.media.drawing import look_at_picture

        part = self.library.parts[split_id(hit.item.id)[0]]
        thumbnail = part.thumbnail(hit.item.key, 2 * side)
        return look_at_picture(thumbnail, side, self._settings.max_pixels)

    def collections(self) -> list[Collection]:
        """List the collections in order of their names; those of one name in several libraries are one."""
        return merge_collections([part.collections() for part in self.library.parts])

    def close(self) -> None:
        """Close the libraries. This is final: a later call raises LibraryError."""
        self._batcher.close()
        self.library.close()

    def renew_after_fork(self) -> None:
        """Make again what holds locks and threads, in a fork of the process."""
        abandon(self._retriever, self._embedder, self._batcher)
        self._embedder = None
        self.library.renew_after_fork()
        for part in self.library.parts:
            part.renew_after_fork()
        self._start()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name in _WRITES:
            raise LibraryError(
                f"Several libraries that are searched as one cannot be written: {name} needs one. "
                f"Open it: clipsearch.open({os.fspath(self.libraries[0])!r})"
            )
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<JointEngine of {', '.join(self.libraries)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A JointEngine cannot be pickled or copied. Open the libraries in the other process.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
