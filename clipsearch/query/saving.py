"""The methods of the engine about saved searches; clipsearch.query.saved does the work, and is loaded then only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from clipsearch.query.options import SearchKeywords, SearchOptions
from clipsearch.query.writing import EngineWrites

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.query.embedding import Picture
    from clipsearch.query.searching import Vector
    from clipsearch.query.terms import Query, Term
    from clipsearch.saved_searches import SavedAnswer, SavedSearch
    from clipsearch.types import Results


class EngineSaved(EngineWrites):
    """Searches that the library keeps by name, with its other data. What a call has returned from is durable."""

    if TYPE_CHECKING:

        def answer(
            self,
            text: str | Term | Query | None = None,
            *,
            image: Picture | None = None,
            vector: Vector | None = None,
            options: SearchOptions,
        ) -> Results:
            """As SearchEngine has it."""

        def embed(
            self,
            *,
            texts: Iterable[str] | None = None,
            images: Iterable[Picture] | None = None,
            kind: str = "document",
        ) -> NDArray[np.float32]:
            """As SearchEngine has it."""

    def save_search(
        self,
        name: str,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        shown: str | None = None,
        during: str | None = None,
        **options: Unpack[SearchKeywords],
    ) -> SavedSearch:
        """Save a search under a name; another one of that name is replaced.

        A text is searched for as it stands, each time. Of a picture its vector is kept, never its path or URL: whoever
        runs the search opens no file. So it ends with the encoder, see `reindex`. Dates in words within filters, such
        as `last month`, are read each time that the search runs.

        Args:
            name: Its name, up to 200 characters, compared without case.
            text: As `search` takes it; a query of several terms has no picture.
            image: See `search`.
            vector: One vector of numbers, shape (dim,).
            shown: The query as it is shown, of a picture or a vector; None for the name of the file.
            during: When it was taken, in words: `last month`, `2024`.
            options: The other arguments of `search`, by keyword.

        Returns:
            The search as it is kept.

        Raises:
            InvalidInputError: The name, the query or an option cannot be used, or the library has 1,000 searches.
            LibraryLockedError: Another writer is still at work after the engine's timeout.
            LibraryError: The library cannot be written.

        Example:
            >>> engine.save_search("beaches", "a beach", k=50, during="last year").name
            'beaches'
        """
        from clipsearch.query import saved
        from clipsearch.query.saved_options import within, without_image

        chosen = within(SearchOptions(**options), during)
        if image is not None and text is None and vector is None:
            vector, chosen = self.embed(images=[image])[0], without_image(chosen, image)
            shown = shown or (os.fspath(image) if isinstance(image, str | os.PathLike) else "picture")
        kept = saved.keep(self.library, name, text, vector, shown, chosen)
        with self._writer() as writer:
            writer.save_search(kept.name, kept.asked, kept.saved_at)
        return saved.describe(kept)

    def saved_searches(self) -> list[SavedSearch]:
        """List the saved searches in order of their names; one that is damaged is left out."""
        from clipsearch.query import saved

        return saved.list_saved(self.library)

    def search_saved(self, name: str, *, new: bool = False, k: int | None = None, offset: int | None = None) -> Results:
        """Run a saved search.

        Args:
            name: Its name, in either case.
            new: Only confident matches that came to the library, or changed, since the search was saved or last asked
                for new matches. What is returned counts as seen; where there are more than `k`, the next call goes on.
            k: How many hits are returned at most; None for what was saved.
            offset: How many of the best hits are passed over; None for what was saved. Not with `new`.

        Returns:
            The ranked hits.

        Raises:
            InvalidInputError: The search does not exist, is damaged, or asks for what is forbidden here.
            LibraryLockedError: With `new`: another writer is still at work after the engine's timeout.
            LibraryError: With `new`: the library cannot be written.
            ClipSearchError: As in `search`.

        Example:
            >>> new = engine.search_saved("beaches", new=True)
        """
        found = self.run_search(name, new=new, k=k, offset=offset)
        if found.mark is not None:
            self.remember_search(name, found.mark)
        return found.results

    def run_search(
        self, name: str, *, new: bool = False, k: int | None = None, offset: int | None = None
    ) -> SavedAnswer:
        """Run a saved search as `search_saved` does, but remember nothing: `remember_search` does, with the mark.

        So what is shown to a person counts as seen once it was shown.

        Args:
            name: See `search_saved`.
            new: See `search_saved`.
            k: See `search_saved`.
            offset: See `search_saved`.

        Returns:
            The hits, and with `new` the mark.

        Raises:
            ClipSearchError: As in `search_saved`.
        """
        from clipsearch.query import saved

        run = saved.prepare(self.library, name, new=new, k=k, offset=offset)
        return run.finish(self.answer(run.text, vector=run.vector, options=run.options))

    def remember_search(self, name: str, mark: str) -> None:
        """Let matches count as seen. Nothing is done for a search that was saved again since, or seen further.

        Args:
            name: See `search_saved`.
            mark: As `run_search` gave it.

        Raises:
            InvalidInputError: There is no such search, or the mark is not one.
            LibraryLockedError: Another writer is still at work after the engine's timeout.
            LibraryError: The library cannot be written.
        """
        from clipsearch.query import saved

        saved_at, until = saved.read_mark(mark)
        with self._writer() as writer:
            writer.remember_search(name, saved_at, until)

    def delete_search(self, name: str) -> None:
        """Delete a saved search. Raises InvalidInputError for an unknown one."""
        with self._writer() as writer:
            writer.delete_search(name)
