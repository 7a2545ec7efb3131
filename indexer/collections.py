"""Collections of a library on a Milvus server: made, filled up, and deleted once no index of the library is in them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann import milvus_params, registry, server_trust
from clipsearch.ann.calibrate import Calibration, Probed
from clipsearch.ann.milvus import MilvusIndex, MissingCollectionError
from clipsearch.ann.milvus_params import MilvusParams
from clipsearch.ann.milvus_server import MilvusServer
from clipsearch.ann.registry import Choice
from clipsearch.errors import AnnIndexError, IndexServerError
from clipsearch.paths import printable
from clipsearch.progress import Stages
from clipsearch.store.catalog import Generation
from clipsearch.store.generations import generation_path, publish
from clipsearch.store.identity import get_library_id
from clipsearch.store.library import Library
from clipsearch.store.vectors import Rows
from clipsearch.types import Modality
from indexer.plan import IndexPlan

logger = logging.getLogger("clipsearch")

RETRAIN_GROWTH = 4.0
"""A collection is rebuilt when the rows have grown by this factor since its number of lists was chosen."""

_OWN_QUERIES = 512


@dataclass(frozen=True, slots=True)
class Collections:
    """The collections of one library on the server of its plan."""

    library: Library
    plan: IndexPlan
    progress: Stages

    def create(self, modality: Modality, rows: Rows, choice: Choice) -> MilvusIndex:
        """Make an empty collection. Raises IndexServerError."""
        library_id = _library_id(self.library)
        params = MilvusParams(
            rows.dim,
            choice.nlist,
            choice.m,
            len(rows),
            self.plan.uri,
            milvus_params.collection_name(library_id, modality),
        )
        index = MilvusIndex(
            params,
            MilvusServer(self.plan.uri, is_build=True),
            label=milvus_params.label(library_id, _place(self.library)),
        )
        index.train(rows.gather(_first(1)))
        return index

    def reusable(self, generation: Generation | None, rows: Rows, choice: Choice) -> MilvusIndex | None:
        """Return the collection of a generation if rows can be added to it. Raises IndexServerError."""
        if generation is None or generation.kind != registry.REMOTE or len(rows) < generation.watermark:
            return None
        try:
            index = MilvusIndex.over(generation.params, generation.watermark)
            if index.params["uri"] != self.plan.uri or index.params["m"] != choice.m:
                return None
            if len(rows) >= RETRAIN_GROWTH * index.params["rows"] or index.params["dim"] != rows.dim:
                return None
            index.check()
            index.clear_unfinished()
        except IndexServerError as error:
            if not isinstance(error, MissingCollectionError):
                raise
            logger.warning("%s It is built again.", error)
            return None
        except AnnIndexError:
            return None
        return index

    def make(
        self,
        modality: Modality,
        rows: Rows,
        choice: Choice,
        known: MilvusIndex | None,
        calibrated: Callable[[Probed, Calibration], Calibration],
    ) -> Generation:
        """Fill a collection and publish its generation. known: what `reusable` found; None for a new collection.

        calibrated: measures an index, unless the calibration that is known of it still holds.
        Raises IndexServerError; a new collection is deleted then.
        """
        index, folder = known or self.create(modality, rows, choice), self.library.folder
        with self.library.read() as snapshot:
            active = snapshot.generation(modality)
        before = _calibration(folder, active) if known and active else Calibration(0, {})

        def write(into: Path) -> None:
            self._fill(index, rows, modality)
            calibrated(index, before).save(into)
            index.save(into)

        try:
            name, checksums = publish(folder, modality, write)
        except BaseException:
            if known is None:
                _discard(index)
            raise
        finally:
            index.close()
        return Generation(modality, name, index.kind, index.params, len(rows), checksums)

    def _fill(self, index: MilvusIndex, rows: Rows, modality: Modality) -> None:
        """Send the rows that a collection lacks, and wait until the server answers from an index of all."""
        self.progress.stage(f"{modality}: sending", len(rows) - len(index))
        for _, block in rows.blocks(len(index)):
            index.add(block)
            self.progress.advance(len(block))
        self.progress.stage(f"{modality}: waiting for the server", 0)
        index.finish(rows.gather(_first(min(_OWN_QUERIES, len(rows)))), lambda: self.progress.advance(0))


def is_whole(generation: Generation) -> bool:
    """Tell whether the server holds what a generation says; also if it cannot be asked, which is a warning."""
    try:
        index = MilvusIndex.over(generation.params, generation.watermark)
    except AnnIndexError:
        return False
    try:
        index.check()
    except MissingCollectionError as error:
        logger.warning("%s It is built again.", error)
        return False
    except IndexServerError as error:
        logger.warning("%s Searches are exact meanwhile.", error)
    finally:
        index.close()
    return True


def check_server(plan: IndexPlan) -> None:
    """See that the server of a plan answers. Raises IndexServerError."""
    server = MilvusServer(plan.uri, is_build=True)
    try:
        server.version()
    finally:
        server.close()


def servers_of(generations: Iterable[Generation], plan: IndexPlan) -> set[str]:
    """Return the servers on which a library may have collections."""
    named = {str(each.params.get("uri", "")) for each in generations if each.kind == registry.REMOTE}
    return {uri for uri in named | {plan.uri} if uri and server_trust.is_trusted(uri)}


def sweep_collections(library: Library, servers: Iterable[str], active: Iterable[Generation]) -> None:
    """Delete the collections that this library made in this place, and in which it has no index.

    A copy of a library in another place has the same id, so what was made there stays. A server that cannot be asked
    is named in a warning.
    """
    kept = {str(each.params.get("collection", "")) for each in active}
    for uri in sorted(servers):
        server = MilvusServer(uri, is_build=True)
        try:
            for name in server.collections():
                if name not in kept and _is_made_here(library, server, name):
                    server.drop(name)
        except IndexServerError as error:
            logger.warning(
                "%s Collections of this library that are no longer used may remain there; their names begin with %s.",
                error, milvus_params.prefix(_library_id(library)),
            )  # fmt: skip
        finally:
            server.close()


def _discard(index: MilvusIndex) -> None:
    """Delete a collection whose build failed; where that fails too, the next build deletes it."""
    try:
        index.drop()
    except IndexServerError as error:
        logger.debug("%s", error)


def _calibration(library: Path, generation: Generation) -> Calibration:
    """Return the calibration of a generation; an empty one where it cannot be read."""
    try:
        return Calibration.load(generation_path(library, generation.name))
    except AnnIndexError:
        return Calibration(0, {})


def _first(count: int) -> NDArray[np.int64]:
    return np.arange(count)


def _is_made_here(library: Library, server: MilvusServer, name: str) -> bool:
    library_id = _library_id(library)
    if not milvus_params.is_collection(name) or not name.startswith(milvus_params.prefix(library_id)):
        return False
    found = server.describe(name)
    return found is not None and (milvus_params.library_of(found[0]), milvus_params.place_of(found[0])) == (
        library_id,
        _place(library),
    )


def _place(library: Library) -> str:
    return printable(os.path.realpath(library.folder))


def _library_id(library: Library) -> str:
    with library.query() as connection:
        return get_library_id(connection)
